"""Tests with peers that are too large to install for every run: see README.md."""
