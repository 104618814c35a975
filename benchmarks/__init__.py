"""Measurements of the service beside other ways to serve the same model. Nothing here is imported by the product."""
