"""Every operation that is no product of a convolution, by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from .answers import clip, constraints, mse, nan_guard
from .conv2d_bias import conv2d_bias
from .dense import dense
from .elementwise import dropout, nesterov, relu
from .images import viewpoints, warp
from .operation import OpProblem
from .pools import maxout, maxpool2d

OPERATIONS: dict[str, Callable[[int], Iterator[OpProblem]]] = {
    "dense": dense,
    "nesterov": nesterov,
    "maxpool2d": maxpool2d,
    "conv2d_bias": conv2d_bias,
    "viewpoints": viewpoints,
    "warp": warp,
    "dropout": dropout,
    "maxout": maxout,
    "relu": relu,
    "constraints": constraints,
    "clip": clip,
    "mse": mse,
    "nan_guard": nan_guard,
}
"""Functions from a batch to the problems of an operation; the most costly operation first."""
