"""Measures the daemon beside its peers; `python -m benchmarks` runs it."""
