"""Training: the loop, one step, its feeds and memory, stopping and resuming."""
