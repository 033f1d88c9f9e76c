"""The programs behind `make run` and `make demo`."""
