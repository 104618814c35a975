"""Loads bundles and answers over HTTP. Holds no TensorFlow; `app.create_app` is the architecture on one page."""
