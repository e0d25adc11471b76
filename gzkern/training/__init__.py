"""Training: the loop, one step, its feeds, its memory, stopping and resuming."""
