"""Augmentation: an example's parameters, its tables for the warp, the warp, the pool that feeds training."""
