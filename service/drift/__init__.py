"""How far the last hour and day are from training."""
