"""`hornpipe import`: versions from anybody's SavedModel or Keras file."""
