"""Grafana dashboards as Python: `python -m dashboards` writes the committed JSON anew."""
