"""Checks of the data before a network sees them."""
