"""Metrics, logs and the correlation of calls."""
