"""Tests of joulefloor."""
