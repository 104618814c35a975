"""The log of predictions: bounded files of JSON lines."""
