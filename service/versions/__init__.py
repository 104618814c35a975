"""Versions of a model: found, loaded, refused, swapped, split between, compared."""
