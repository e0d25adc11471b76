"""Rectifier: max(x, 0), where NaN stays NaN."""

from __future__ import annotations

import numpy as np

from ..core import arguments


def forward(x: np.ndarray) -> np.ndarray:
    """``x < 0 ? 0 : x``, any shape and dtype."""
    arguments.host_arrays("relu", x=x)
    return rectify(x)


def rectify(x: np.ndarray) -> np.ndarray:
    """:func:`forward` of an array that was checked."""
    return np.where(x < 0, x.dtype.type(0), x)


def backward(gradient: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The gradient where y > 0 (or NaN), else 0: the derivative at 0 is taken as 0, as in the original."""
    arguments.host_arrays("relu", gradient=gradient, y=y)
    arguments.relu_backward(gradient, y)
    return gate(gradient, y)


def gate(gradient: np.ndarray, y: np.ndarray) -> np.ndarray:
    """:func:`backward` of arrays that were checked."""
    return np.where(y <= 0, gradient.dtype.type(0), gradient)
