"""Metrics of plugins and host for Prometheus (extra ``metrics``)."""
