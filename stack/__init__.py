"""The real servers around the daemon, for `make run`, `make demo` and the tests."""
