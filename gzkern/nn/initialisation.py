"""First values of the parameters, from (seed, name) alone."""

from __future__ import annotations

import zlib

import numpy as np

from .layers import Parameter


def initial(parameter: Parameter, scheme: str, seed: int) -> np.ndarray:
    """Float32 start of one parameter, in its run-time shape.

    "published": normal with the standard deviation of paper table 2, biases as published. "fan_in": normal with
    standard deviation √(2 / fan-in) (He et al. 2015), biases 0, for networks and runs too small to leave the
    published plateau; the last, linear layer keeps its published values, so that all answers start level.
    """
    fan_in = scheme == "fan_in" and parameter.rectified
    if parameter.std is None:
        return np.full(parameter.shape, 0.0 if fan_in else parameter.constant, np.float32)
    std = (2 / parameter.fan_in) ** 0.5 if fan_in else parameter.std
    rng = np.random.Generator(np.random.Philox(key=np.array([seed, zlib.crc32(parameter.name.encode())], np.uint64)))
    return rng.standard_normal(parameter.shape, np.float32) * np.float32(std)
