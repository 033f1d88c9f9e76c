"""The chart on a cluster: `make e2e` for people with kind, and the checks that tests share."""
