"""The run directory: configuration, weights, checkpoints, metrics."""
