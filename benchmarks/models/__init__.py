"""The models that are served: configs of Hornpipe's own training, and a network."""
