"""The networks that Hornpipe brings along, and the ways in for others: one a module.

Each is a function of ModelInputs (inputs.py) and its section of the config, and returns packed inputs -> logits.
"""
