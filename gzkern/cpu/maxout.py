"""Maxout with two pieces: unit j is the larger of rows 2j and 2j + 1 (Goodfellow et al. 2013)."""

from __future__ import annotations

import numpy as np

from .. import check
from ..errors import InputError


def forward(x: np.ndarray) -> np.ndarray:
    """(2U, B) to (U, B); NaN in either piece passes through."""
    check.shape("maxout", "x", x, (None, None))
    if x.shape[0] % 2:
        raise InputError(f"maxout: x has {x.shape[0]} rows, expected an even number (two pieces a unit)")
    return np.maximum(x[0::2], x[1::2])


def backward(gradient: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """(U, B) to (2U, B): the gradient goes to the piece that won, in full to both of a tie."""
    dx = np.empty_like(x)
    dx[0::2] = np.where(x[0::2] == y, gradient, 0)
    dx[1::2] = np.where(x[1::2] == y, gradient, 0)
    return dx
