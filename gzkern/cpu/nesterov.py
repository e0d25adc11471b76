"""Nesterov momentum as the original writes it: the gradient is taken at the current weights.

v ← μ·v − η·g ;  w ← w + μ·v − η·g. At a constant rate this equals PyTorch's; where the rate drops, the velocity
keeps the old one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..core import arguments
from .dense import OuterProduct


def update(
    weight: np.ndarray,
    velocity: np.ndarray,
    gradient: np.ndarray | OuterProduct,
    rate: Any,
    momentum: float,
    first_bad: np.ndarray,
) -> None:
    """Update weight and velocity in place; arrays of one shape and dtype, contiguous.

    ``rate`` is a number or a float32 array (1,). Nothing happens once first_bad (1,) int64 holds a step ≥ 0, see
    :mod:`gzkern.cpu.nan_guard`.
    """
    dense = {} if isinstance(gradient, OuterProduct) else {"gradient": gradient}
    arguments.host_arrays(
        "nesterov", {"first_bad": np.int64}, weight=weight, velocity=velocity, first_bad=first_bad, **dense
    )
    arguments.nesterov_update(weight, velocity, gradient, rate, first_bad)
    arguments.contiguous("nesterov", weight=weight, velocity=velocity)
    if first_bad[0] >= 0:
        return
    if weight.dtype != np.float32:
        update_oracle(weight, velocity, np.asarray(gradient), rate, momentum)
        return
    from .jit import nesterov as jit

    rates = np.float32(np.asarray(rate).item()), np.float32(momentum)
    if isinstance(gradient, OuterProduct):
        jit.update_outer(weight, velocity, gradient.rows, gradient.columns, *rates)
        return
    several_threads = weight.size > jit.BLOCK
    update_flat = jit.update if several_threads else jit.update_block
    update_flat(weight.reshape(-1), velocity.reshape(-1), np.ascontiguousarray(gradient).reshape(-1), *rates)


def update_all(
    arrays: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray | OuterProduct]],
    rate: Any,
    momentum: float,
    first_bad: np.ndarray,
) -> None:
    """:func:`update` of each weight, velocity and gradient."""
    for weight, velocity, gradient in arrays:
        update(weight, velocity, gradient, rate, momentum, first_bad)


def update_oracle(weight: np.ndarray, velocity: np.ndarray, gradient: np.ndarray, rate: Any, momentum: float) -> None:
    """:func:`update` in plain NumPy; any dtype."""
    velocity[...] = momentum * velocity - rate * gradient
    weight += momentum * velocity - rate * gradient
