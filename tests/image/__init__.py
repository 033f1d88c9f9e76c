"""Tests of the image: built by a real Docker Engine, run as the chart and the README run it."""
