"""Hostile input, by what it attacks: bodies of every kind, and bytes that are not quite HTTP."""
