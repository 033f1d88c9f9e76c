"""Tests of the dashboards: their text, their expressions on real servers, and their pictures."""
