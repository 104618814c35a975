"""HTTP itself and the paths that must be fast: the protocol, what it hands over, and what documents it."""
