"""Maxout with two pieces: unit j is the larger of rows 2j and 2j + 1 (Goodfellow et al. 2013).

The code byte of a value says which pieces equal the maximum, bit 0 for row 2j and bit 1 for row 2j + 1; the
gradient goes to each of them in full. NaN in either piece passes through, with code 0.
"""

from __future__ import annotations

import numpy as np

from ..core import arguments


def forward(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """x (2U, B) of any dtype to y (U, B) and its uint8 code."""
    arguments.host_arrays("maxout", x=x)
    arguments.maxout_forward(x)
    return larger(x)


def larger(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """:func:`forward` of an array that was checked."""
    first, second = x[0::2], x[1::2]
    y = np.maximum(first, second)
    return y, ((first == y) + 2 * (second == y)).astype(np.uint8)


def backward(gradient: np.ndarray, code: np.ndarray) -> np.ndarray:
    """The gradient of y (U, B), by its code, as (2U, B)."""
    arguments.host_arrays("maxout", {"code": np.uint8}, gradient=gradient, code=code)
    arguments.maxout_backward(gradient, code)
    return scatter(gradient, code)


def scatter(gradient: np.ndarray, code: np.ndarray) -> np.ndarray:
    """:func:`backward` of arrays that were checked."""
    units, B = gradient.shape
    dx = np.empty((2 * units, B), gradient.dtype)
    dx[0::2] = np.where(code & 1, gradient, 0)
    dx[1::2] = np.where(code & 2, gradient, 0)
    return dx
