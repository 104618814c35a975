"""A version on trial beside production: compared while it answers a share of the traffic, then more of it, or none."""
