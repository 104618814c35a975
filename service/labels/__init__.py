"""Labels that come later, and their predictions."""
