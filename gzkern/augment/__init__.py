"""Augmentation: an example's parameters, the geometry of its crops, the warp, the pool that feeds training."""
