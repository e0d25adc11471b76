"""What the passes of a dense layer share: activations, and the checks of what a backward pass reads.

``saved`` is what backward passes need of the forward pass: y by "relu", the code by "maxout", None by "linear";
``scale`` that of the mask by which y was dropped, 1 without.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from ...core import arguments as check
from ...errors import InputError
from ...runtime.arrays import backend_of, require_size
from ...runtime.backend import Backend
from ...runtime.kernel import Geometry, ceil_div

ACTIVATIONS = {"linear": np.uint32(0), "relu": np.uint32(1), "maxout": np.uint32(2)}
"""As in activation.cuh."""

LONGEST_CHAIN = 4096
"""Additions one after the other."""

_MOST_GROUPS = 8  # of threads that share the parts of a sum; as in dense/parts.cuh

_SAVED = {"relu": "y", "maxout": "code"}


def require_activation(activation: str, outputs: int) -> None:
    """Refuse an activation that there is not, and maxout of single pieces.

    Raises:
        InputError: says what is expected.
    """
    if activation not in ACTIVATIONS:
        raise InputError(f"dense: activation is {activation!r}, expected linear, relu or maxout")
    if activation == "maxout" and outputs % 2:
        raise InputError(f"dense: weight has {outputs} columns, expected an even number for maxout (two pieces a unit)")


def require_precision(precision: str, offered: Iterable[str]) -> None:
    """Refuse a precision that is not offered.

    Raises:
        InputError: names those that are.
    """
    if precision not in offered:
        raise InputError(f"dense: precision is {precision!r}, expected {' or '.join(offered)}")


def require_gradient(gradient: Any, saved: Any, activation: str, **inputs: Any) -> Backend:
    """Check what a backward pass reads, ``inputs`` being x, weight, both or neither; its device.

    Raises:
        InputError: arrays that do not fit each other or the kernels.
    """
    require_activation(activation, outputs=0)
    arrays = {**inputs, "gradient": gradient}
    if activation in _SAVED:
        arrays[_SAVED[activation]] = saved
    backend = backend_of("dense", {"code": np.uint8}, **arrays)
    check.shape("dense", "gradient", gradient, (None, None))
    shapes = {"x": (None, gradient.shape[1]), "weight": (None, outputs_of(gradient, activation))}
    for name, array in arrays.items():
        check.shape("dense", name, array, shapes.get(name, gradient.shape))
    return backend


def outputs_of(gradient: Any, activation: str) -> int:
    """The rows of z."""
    return gradient.shape[0] * (2 if activation == "maxout" else 1)


def sources(gradient: Any, saved: Any) -> tuple[Any, Any]:
    """The two arrays that kernels rebuild the gradient of z from; of a linear layer they read one alone."""
    return gradient, gradient if saved is None else saved


def after(activation: str, scale: float) -> tuple[np.uint32, np.float32]:
    """What followed z, as backward kernels take it: the activation, and the scale of what dropout kept."""
    return ACTIVATIONS[activation], np.float32(scale)


def empty(backend: Backend, name: str, shape: tuple[int, ...]) -> Any:
    """A result.

    Raises:
        InputError: it would have too many elements for the kernels.
    """
    require_size("dense", name, shape)
    return backend.empty(shape)


def four_columns(shape: tuple[int, int], parts: int) -> Geometry:
    """Blocks that add up parts of a result (rows, B): in each group of threads one for four columns of a row.

    See dense/parts.cuh.
    """
    rows, B = shape
    threads = 4, 16, min(max(parts, 1), _MOST_GROUPS)
    return Geometry((ceil_div(rows, threads[1]), ceil_div(B, 4 * threads[0])), threads)
