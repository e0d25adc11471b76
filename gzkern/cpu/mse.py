"""Mean squared error over batch × answers (paper, objective; with the mean that Kaggle's metric takes)."""

from __future__ import annotations

import numpy as np

from ..core import arguments


def forward(p: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Scalar of the dtype of p: the mean of (p − targets)², both (A, B), summed in float64."""
    arguments.host_arrays("mse", p=p, targets=targets)
    arguments.mse_forward(p, targets)
    difference = (p - targets).astype(np.float64)
    return np.mean(difference * difference).astype(p.dtype)


def backward(gradient: np.ndarray, p: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """dp (A, B) from the gradient of the scalar."""
    arguments.host_arrays("mse", p=p, targets=targets, gradient=gradient)
    arguments.mse_backward(gradient, p, targets)
    return (p - targets) * (gradient * p.dtype.type(2 / max(p.size, 1)))
