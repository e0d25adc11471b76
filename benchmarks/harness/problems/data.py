"""Arrays of a convolution on the host, drawn from fixed seeds."""

from __future__ import annotations

from functools import cached_property, lru_cache

import numpy as np

from gzkern.core.shapes import Conv2dSizes
from gzkern.cpu import maxpool2d, relu

from .layers import LAYERS

DISTINCT = 512
"""Images that differ; a larger batch repeats them, which saves the host minutes."""


@lru_cache(maxsize=2 * len(LAYERS))
class Data:
    """Arrays of a layer in C,H,W,N, drawn when they are asked for."""

    def __init__(self, sizes: Conv2dSizes, epilogue: str):
        self._sizes, self._epilogue = sizes, epilogue

    @cached_property
    def x(self) -> np.ndarray:
        """The input."""
        return _normal(self._sizes.x, 1)

    @cached_property
    def weight(self) -> np.ndarray:
        """Weights that keep the variance."""
        s = self._sizes
        return _normal(s.weight, 2) / np.float32(np.sqrt(s.C * s.R * s.S))

    @cached_property
    def bias(self) -> np.ndarray:
        """One bias a position; zeros for a convolution alone, since our kernels add it all the same."""
        s = self._sizes
        if self._epilogue == "plain":
            return np.zeros((s.K, s.P, s.Q), np.float32)
        return _normal((s.K, s.P, s.Q), 3) * np.float32(0.1)

    @cached_property
    def gradient(self) -> np.ndarray:
        """The gradient of y."""
        return _normal(self._sizes.y(self._epilogue), 4)

    @cached_property
    def activations(self) -> np.ndarray:
        """Rectified sums as they go into a pool; drawn, not computed, since a gradient takes any."""
        s = self._sizes
        return relu.forward(_normal((s.K, s.P, s.Q, s.N), 5))

    @cached_property
    def y(self) -> np.ndarray:
        """Output of the forward pass, pooled by "pool"."""
        return self._pooled[0] if self._epilogue == "pool" else self.activations

    @cached_property
    def saved(self) -> np.ndarray | None:
        """Array that the forward pass saves for our backward passes: the pool's code, y, or None."""
        return {"pool": lambda: self._pooled[1], "relu": lambda: self.y, "plain": lambda: None}[self._epilogue]()

    @cached_property
    def _pooled(self) -> tuple[np.ndarray, np.ndarray]:
        y, code = maxpool2d.forward(self.activations[..., :DISTINCT])
        return _repeated(y, self._sizes.N), _repeated(code, self._sizes.N)


def _normal(shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Float32 from a normal distribution; beyond 512 images the same ones again."""
    distinct = (*shape[:-1], min(shape[-1], DISTINCT))
    return _repeated(np.random.default_rng(seed).standard_normal(distinct, np.float32), shape[-1])


def _repeated(array: np.ndarray, count: int) -> np.ndarray:
    if array.shape[-1] == count:
        return array
    times = -(-count // array.shape[-1])
    return np.ascontiguousarray(np.tile(array, times)[..., :count])
