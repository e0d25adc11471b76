"""Nesterov momentum, weight and velocity in place: v ← μ·v − η·g, w ← w + μ·v − η·g; ``kernels/nesterov.cu``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..core import arguments
from ..runtime.arrays import backend_of, number
from ..runtime.backend import Backend
from ..runtime.kernel import Geometry, by_fours, choose, elementwise, kernel

UPDATE = {
    "naive": kernel("nesterov", "naive"),
    "vectorised": kernel("nesterov", "vectorised"),
}
SEVERAL = kernel("nesterov", "several")

_AT_ONCE = 6  # arrays of one launch
_FEW = 2**19  # elements: up to here a launch costs more than its loads of 4 bytes


def update(weight: Any, velocity: Any, gradient: Any, rate: Any, momentum: float, first_bad: Any) -> None:
    """Update weight and velocity in place; arrays of one shape, float32.

    ``rate`` is a number, or a float32 array (1,) of the device. Nothing happens once first_bad (1,) int64 holds a
    step ≥ 0, see :mod:`gzkern.cuda.nan_guard`.
    """
    step(weight, velocity, gradient, rate, momentum, first_bad)


def update_all(arrays: Sequence[tuple[Any, Any, Any]], rate: Any, momentum: float, first_bad: Any) -> None:
    """:func:`update` of each weight, velocity and gradient; small ones share launches."""
    backends = [_checked(*each, rate, first_bad) for each in arrays]
    for backend, large in zip(backends, arrays, strict=True):
        if large[0].size > _FEW:
            launch(backend, *large, rate, momentum, first_bad)
    few = [each for each in arrays if each[0].size <= _FEW]
    for start in range(0, len(few), _AT_ONCE):
        _launch_several(backends[0], few[start : start + _AT_ONCE], rate, momentum, first_bad)


def step(
    weight: Any,
    velocity: Any,
    gradient: Any,
    rate: Any,
    momentum: float,
    first_bad: Any,
    version: str | None = None,
) -> None:
    """:func:`update` by "naive", or by "vectorised" where 4 divides the size."""
    backend = _checked(weight, velocity, gradient, rate, first_bad)
    launch(backend, weight, velocity, gradient, rate, momentum, first_bad, version)


def step_several(arrays: Sequence[tuple[Any, Any, Any]], rate: Any, momentum: float, first_bad: Any) -> None:
    """:func:`update` of one to six arrays by one launch."""
    backends = [_checked(*each, rate, first_bad) for each in arrays]
    _launch_several(backends[0], arrays, rate, momentum, first_bad)


def launch(
    backend: Backend,
    weight: Any,
    velocity: Any,
    gradient: Any,
    rate: Any,
    momentum: float,
    first_bad: Any,
    version: str | None = None,
) -> None:
    """:func:`step` of arrays that were checked."""
    n = weight.size
    version = by_fours("nesterov", version, "elements", n, "naive")
    kernel = choose("nesterov", UPDATE, version)
    geometry = elementwise(n if version == "naive" else n // 4)
    how = number(backend, rate, np.float32), np.float32(momentum), first_bad
    kernel(backend, geometry, weight, velocity, gradient, np.uint32(n), *how)


def _launch_several(
    backend: Backend, arrays: Sequence[tuple[Any, Any, Any]], rate: Any, momentum: float, first_bad: Any
) -> None:
    missing = _AT_ONCE - len(arrays)
    groups = [(*each, np.uint32(each[0].size)) for each in arrays] + [(*arrays[0], np.uint32(0))] * missing
    blocks = elementwise(max(weight.size for weight, _, _ in arrays))
    geometry = Geometry((*blocks.grid, len(arrays)), blocks.block)
    how = number(backend, rate, np.float32), np.float32(momentum), first_bad
    SEVERAL(backend, geometry, *(argument for group in groups for argument in group), *how)


def _checked(weight: Any, velocity: Any, gradient: Any, rate: Any, first_bad: Any) -> Backend:
    """Check what an update reads and writes; its device, which first_bad shares with every other update."""
    arrays = {"weight": weight, "velocity": velocity, "gradient": gradient}
    backend = backend_of("nesterov", {"first_bad": np.int64}, **arrays, first_bad=first_bad)
    arguments.nesterov_update(weight, velocity, gradient, rate, first_bad)
    return backend
