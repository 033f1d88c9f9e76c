"""Whole expositions of recorded machines."""
