"""The parts of the training loop, and what lets it be killed."""
