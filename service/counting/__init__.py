"""Counting what is served, and telling Prometheus."""
