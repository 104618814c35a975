"""Whether what was answered was right, by labels or by estimate."""
