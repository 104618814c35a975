"""What training and service agree on: the bundle, its features, its runtimes. Imports neither of the two."""
