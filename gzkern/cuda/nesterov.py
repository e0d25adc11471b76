"""Nesterov momentum, weight and velocity in place: v ← μ·v − η·g, w ← w + μ·v − η·g; ``kernels/nesterov.cu``."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import check
from .launch import Kernel, backend_of, by_fours, choose, elementwise, require_writable

UPDATE = {
    "naive": Kernel("nesterov", "nesterov_naive"),
    "vectorised": Kernel("nesterov", "nesterov_vectorised"),
}


def update(weight: Any, velocity: Any, gradient: Any, lr: float, momentum: float, first_bad: Any) -> None:
    """Update weight and velocity in place; arrays of one shape, float32.

    Nothing happens once first_bad (1,) int64 holds a step ≥ 0, see :mod:`gzkern.cuda.finite`.
    """
    step(weight, velocity, gradient, lr, momentum, first_bad)


def step(
    weight: Any,
    velocity: Any,
    gradient: Any,
    lr: float,
    momentum: float,
    first_bad: Any,
    version: str | None = None,
) -> None:
    """:func:`update` by "naive", or by "vectorised" where 4 divides the size."""
    arrays = {"weight": weight, "velocity": velocity, "gradient": gradient}
    backend = backend_of("nesterov", {"first_bad": np.int64}, **arrays, first_bad=first_bad)
    for name, array in arrays.items():
        check.shape("nesterov", name, array, weight.shape)
    check.shape("nesterov", "first_bad", first_bad, (1,))
    require_writable("nesterov", weight=weight, velocity=velocity)
    n = weight.size
    version = by_fours("nesterov", version, "elements", n, "naive")
    kernel = choose("nesterov", UPDATE, version)
    geometry = elementwise(n if version == "naive" else n // 4)
    kernel(backend, geometry, *arrays.values(), np.uint32(n), np.float32(lr), np.float32(momentum), first_bad)
