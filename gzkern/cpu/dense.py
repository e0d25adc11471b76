"""Dense layer on (features, B) arrays: z[o, b] = Σ_i weight[i, o] · x[i, b] + bias[o] (paper, network architecture)."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import check


class OuterProduct:
    """A weight gradient kept as its factors: rowsᵀ · columns, from rows (B, I) and columns (B, O).

    At the published batch the factors are 200 times smaller than the product, which the optimiser then forms in
    cache, block by block. ``numpy.asarray`` gives the product.
    """

    def __init__(self, rows: np.ndarray, columns: np.ndarray):
        self.rows = rows
        self.columns = columns

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        from .jit import dense as jit

        product = np.empty((self.rows.shape[1], self.columns.shape[1]), np.float32)
        jit.backward_weights(self.rows, self.columns, product)
        return product if dtype is None else product.astype(dtype)


def forward(x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """x (I, B), weight (I, O), bias (O,) to z (O, B)."""
    _check(x, weight, bias)
    if x.dtype != np.float32:
        return forward_oracle(x, weight, bias)
    from .jit import dense as jit

    z = np.empty((x.shape[1], weight.shape[1]), np.float32)
    jit.forward(np.ascontiguousarray(x), np.ascontiguousarray(weight), z)
    return np.ascontiguousarray((z + bias).T)


def backward(
    x: np.ndarray, weight: np.ndarray, gradient: np.ndarray, *, data: bool = True
) -> tuple[np.ndarray | None, np.ndarray | OuterProduct, np.ndarray]:
    """Gradients of :func:`forward` from that of z (O, B): dx (I, B) or None, dweight (I, O), dbias (O,).

    In float32 dweight comes as its factors, an :class:`OuterProduct`.
    """
    if x.dtype != np.float32:
        return backward_oracle(x, weight, gradient, data=data)
    from .jit import dense as jit

    rows = np.ascontiguousarray(gradient.T)
    dx = None
    if data:
        dx = np.empty(x.shape, np.float32)
        jit.backward_data(np.ascontiguousarray(weight), rows, dx)
    return dx, OuterProduct(np.ascontiguousarray(x.T), rows), gradient.sum(axis=1)


def forward_oracle(x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """:func:`forward` by ``@``; any dtype."""
    return weight.T @ x + bias[:, None]


def backward_oracle(
    x: np.ndarray, weight: np.ndarray, gradient: np.ndarray, *, data: bool = True
) -> tuple[np.ndarray | None, np.ndarray, np.ndarray]:
    """:func:`backward` by ``@``; any dtype."""
    return weight @ gradient if data else None, x @ gradient.T, gradient.sum(axis=1)


def _check(x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> None:
    check.shape("dense", "x", x, (None, None))
    check.shape("dense", "weight", weight, (x.shape[0], None))
    check.shape("dense", "bias", bias, (weight.shape[1],))
    check.same_dtype("dense", x=x, weight=weight, bias=bias)
