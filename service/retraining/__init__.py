"""What asks for retraining by itself: the clock, new labels, worse quality, and alerts; as a model's config wishes."""
