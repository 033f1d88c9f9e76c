"""Dashboards and pages, drawn in a real browser."""
