"""Dense layer on (features, B) arrays (paper, network architecture): product, bias and activation in one operation.

z[o, b] = Σ_i weight[i, o] · x[i, b] + bias[o]; then y = z ("linear"), max(z, 0) ("relu"), or the larger of rows 2j
and 2j + 1 of z with a code byte that says which ("maxout", see cpu.maxout); then dropout.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..core import arguments
from ..core.dropout_mask import DropoutMask
from ..core.fused_update import FusedUpdate
from . import dropout, maxout, relu


class OuterProduct:
    """A weight gradient kept as its factors: rowsᵀ · columns, from rows (B, I) and columns (B, O).

    At the published batch the factors are 200 times smaller than the product, which the optimiser then forms in
    cache, block by block. ``numpy.asarray`` gives the product.
    """

    def __init__(self, rows: np.ndarray, columns: np.ndarray):
        self.rows = rows
        self.columns = columns
        self.shape = rows.shape[1], columns.shape[1]
        self.ndim = 2

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        from .jit import dense as jit

        product = np.empty(self.shape, np.float32)
        jit.backward_weights(self.rows, self.columns, product)
        return product if dtype is None else product.astype(dtype)


def forward(
    x: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray,
    *,
    activation: str = "linear",
    drop: DropoutMask | None = None,
    precision: str = "fp32",
) -> tuple[np.ndarray, np.ndarray | None]:
    """Dense product, bias, activation, dropout.

    Args:
        x: (I, B).
        weight: (I, O).
        bias: (O,).
        activation: "linear", "relu" or "maxout".
        drop: the mask of y, not of a linear layer; what is dropped has code 0.
        precision: "fp32".

    Returns:
        y (O, B) and None, or for maxout y (O/2, B) and its uint8 code.
    """
    arguments.only_fp32("dense", precision)
    arguments.host_arrays("dense", x=x, weight=weight, bias=bias)
    arguments.dense_forward(x, weight, bias, activation, drop is not None)
    if x.dtype != np.float32:
        z = weight.T @ x + bias[:, None]
    else:
        from .jit import dense as jit

        rows = np.empty((x.shape[1], weight.shape[1]), np.float32)
        jit.forward(np.ascontiguousarray(x), np.ascontiguousarray(weight), rows)
        z = np.ascontiguousarray((rows + bias).T)
    if activation == "linear":
        return z, None
    y, code = maxout.larger(z) if activation == "maxout" else (relu.rectify(z), None)
    if drop is not None:
        multiplier = dropout.multiplier(y, drop)
        y *= multiplier
        if code is not None:
            code[multiplier == 0] = 0
    return y, code


def backward(
    x: np.ndarray,
    weight: np.ndarray,
    y: np.ndarray,
    code: np.ndarray | None,
    gradient: np.ndarray,
    *,
    activation: str = "linear",
    data: bool = True,
    drop: DropoutMask | None = None,
    update: FusedUpdate | None = None,
    precision: str = "fp32",
) -> tuple[np.ndarray | None, np.ndarray | OuterProduct, np.ndarray]:
    """Gradients of :func:`forward`, from its inputs, its results and the gradient of y.

    What was dropped has y = 0 or code 0, so that of the mask only the scale is needed. ``update`` is for devices that
    move weights in the backward pass; here dweight is always returned.

    Returns:
        dx (I, B), or None where ``data`` is false; dweight (I, O), in float32 as its factors, an
        :class:`OuterProduct`; dbias (O,).
    """
    arguments.only_fp32("dense", precision)
    saved = arguments.saved(activation, y, code)
    arguments.host_arrays("dense", {"code": np.uint8}, x=x, weight=weight, gradient=gradient, **saved)
    arguments.dense_backward(activation, gradient, x=x, weight=weight, **saved)
    dz = gradient if drop is None else gradient * drop.scale
    if activation == "maxout":
        assert code is not None
        dz = maxout.scatter(dz, code)
    elif activation == "relu":
        dz = relu.gate(dz, y)
    if x.dtype != np.float32:
        return weight @ dz if data else None, x @ dz.T, dz.sum(axis=1)
    from .jit import dense as jit

    rows = np.ascontiguousarray(dz.T)
    dx = None
    if data:
        dx = np.empty(x.shape, np.float32)
        jit.backward_data(np.ascontiguousarray(weight), rows, dx)
    return dx, OuterProduct(np.ascontiguousarray(x.T), rows), dz.sum(axis=1)
