"""Configurations of networks small enough for tests."""

from gzkern.config import Config, load_config

SMALL = (
    "model.filters=[4, 5, 6, 7]",
    "model.units=[8, 6]",
    "data.target=69",
    "train.examples=160",
    "train.validate_every=64",
    "train.warmup_examples=16",
    "train.chunk=32",
)


def small_config(*overrides: str) -> Config:
    """The laptop preset cut down to a few thousand weights and ten steps."""
    return load_config("laptop", [*SMALL, *overrides])
