"""The use case: rows wait, are batched, run, and are answered."""
