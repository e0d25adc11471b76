"""The forward pass of a dense layer: product, bias, activation, dropout; ``kernels/dense/forward.cu``.

Arrays are float32, codes uint8. In ``precision`` "tf32" and "fp32x3", three tf32 products with float32's error,
products run on tensor cores where there are images enough and kernels for the sizes; all else is computed in fp32,
which is as exact. "bf16" is for prediction: x, weight and y are uint16, the bits of bfloat16.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ...core import arguments
from ...core.dropout_mask import DropoutMask
from ...errors import InputError
from ...runtime.arrays import backend_of, number
from ...runtime.backend import Backend
from ...runtime.kernel import by_fours, choose, extents, kernel
from . import forward_mma
from .launches import empty, four_columns, geometry, parts_of
from .mma import PRECISIONS, require_sizes, tensor_cores_pay

FORWARD = {
    "naive": kernel("dense/forward", "naive"),
    "tiled": kernel("dense/forward", "tiled"),
    "vectorised": kernel("dense/forward", "vectorised"),
}
ACTIVATE = {
    "linear": kernel("dense/forward", "linear"),
    "relu": kernel("dense/forward", "relu"),
    "maxout": kernel("dense/forward", "maxout"),
}
ACTIVATE_AND_DROP = {
    "relu": kernel("dense/forward", "relu_dropout"),
    "maxout": kernel("dense/forward", "maxout_dropout"),
}

_TILE = (256, 16)  # outputs and images of a block


def forward(
    x: Any,
    weight: Any,
    bias: Any,
    *,
    activation: str = "linear",
    drop: DropoutMask | None = None,
    precision: str = "fp32",
) -> tuple[Any, Any]:
    """Dense product, bias, activation, dropout.

    Args:
        x: (I, B).
        weight: (I, O).
        bias: (O,), float32.
        activation: "linear", "relu" or "maxout".
        drop: the mask of y, not of a linear layer; what is dropped has code 0.
        precision: of the product. By "bf16" a linear layer's y is float32, and float32 arrays are computed in fp32.

    Returns:
        y (O, B) and None, or for maxout y (O/2, B) and its uint8 code, which bf16 leaves out.

    Raises:
        InputError: arrays that do not fit each other or the kernels; an odd O with maxout; a mask of a linear layer.
    """
    bf16 = precision == "bf16" and getattr(x, "dtype", None) == np.uint16
    dtype = np.uint16 if bf16 else np.float32
    arguments.precision("dense", precision, (*PRECISIONS, "bf16"))
    backend = backend_of("dense", {"x": dtype, "weight": dtype}, x=x, weight=weight, bias=bias)
    arguments.dense_forward(x, weight, bias, activation, drop is not None)
    if not bf16:
        return _activate(backend, _product(backend, x, weight, None, precision), bias, activation, drop)
    if drop is not None:
        raise InputError("dense: drop is given, expected None in bf16, which is for prediction")
    require_sizes(x, weight.shape[1], precision)
    partial = forward_mma.product(backend, x, weight, precision)
    if activation == "linear":
        return _activate(backend, partial, bias, activation, None)
    return forward_mma.activate(backend, partial, bias, activation), None


def product(x: Any, weight: Any, version: str | None = None, precision: str = "fp32") -> Any:
    """Partial sums of weightᵀ·x as (parts, B, O).

    By a ``version`` in fp32, "naive", "tiled", or "vectorised" where 4 divides O; without one by the fastest, in a
    precision of PRECISIONS; float32 arrays are computed in fp32 where "bf16" is asked for.
    """
    backend = backend_of("dense", x=x, weight=weight)
    arguments.shape("dense", "x", x, (None, None))
    arguments.shape("dense", "weight", weight, (x.shape[0], None))
    arguments.precision("dense", precision, (*PRECISIONS, "bf16"))
    return _product(backend, x, weight, version, precision)


def _product(backend: Backend, x: Any, weight: Any, version: str | None, precision: str) -> Any:
    (inputs, B), outputs = x.shape, weight.shape[1]
    if version is None and precision != "fp32" and tensor_cores_pay(precision, outputs, B):
        return forward_mma.product(backend, x, weight, precision)
    version = by_fours("dense", version, "outputs", outputs, "tiled")
    kernel = choose("dense", FORWARD, version)
    part, parts = parts_of(inputs, outputs, B, _TILE)
    partial = empty(backend, "the partial sums", (parts, B, outputs))
    sizes = extents(inputs, outputs, B, part)
    kernel(backend, geometry(version, outputs, B, parts, _TILE), x, weight, partial, *sizes)
    return partial


def activate(partial: Any, bias: Any, activation: str = "linear", drop: DropoutMask | None = None) -> tuple[Any, Any]:
    """Results of :func:`forward` from the partial sums (parts, B, O) of the product."""
    backend = backend_of("dense", partial=partial, bias=bias)
    arguments.shape("dense", "bias", bias, (None,))
    arguments.shape("dense", "partial", partial, (None, None, bias.shape[0]))
    arguments.dense_activation(activation, bias.shape[0])
    if drop is not None and activation not in ACTIVATE_AND_DROP:
        raise InputError(f"dense: drop is given, expected None: what a {activation} layer drops leaves no trace in y")
    return _activate(backend, partial, bias, activation, drop)


def _activate(backend: Backend, partial: Any, bias: Any, activation: str, drop: DropoutMask | None) -> tuple[Any, Any]:
    parts, B, outputs = partial.shape
    kernels, words = (ACTIVATE, ()) if drop is None else (ACTIVATE_AND_DROP, _dropout(backend, drop))
    maxout = activation == "maxout"
    y = backend.empty((outputs // 2 if maxout else outputs, B))
    code = backend.empty(y.shape, np.uint8) if maxout else None
    results = (y, code) if maxout else (y,)
    sizes = extents(outputs, B, parts)
    kernels[activation](backend, four_columns(y.shape, parts), partial, bias, *results, *sizes, *words)
    return y, code


def _dropout(backend: Backend, drop: DropoutMask) -> tuple[Any, ...]:
    """Arguments of the activation kernels for a mask."""
    return *drop.key, np.uint32(drop.layer), number(backend, drop.step, np.int64), drop.threshold, drop.scale
