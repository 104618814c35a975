"""From a config to a proven bundle. `pipeline.run` is the table of contents."""
