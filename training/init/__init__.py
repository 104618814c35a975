"""`hornpipe init`: a first config, from looking at the data."""
