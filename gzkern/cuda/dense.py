"""Dense layer on (features, B) arrays: product, bias, activation and their gradients; ``kernels/dense_*.cu``.

Arrays are float32, codes uint8. Below the two operations stands one function a kernel, or a product kernel and the one
that adds up its parts. ``kept`` is what their backward passes need of :func:`forward`: y by "relu", the code by
"maxout", None by "linear".
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import check
from ..errors import InputError
from .launch import (
    Backend,
    Geometry,
    Kernel,
    backend_of,
    by_fours,
    ceil_div,
    choose,
    elementwise,
    extents,
    require_size,
)

FORWARD = {
    "naive": Kernel("dense_forward", "dense_forward_naive"),
    "tiled": Kernel("dense_forward", "dense_forward_tiled"),
    "vectorised": Kernel("dense_forward", "dense_forward_vectorised"),
}
ACTIVATE = {
    "linear": Kernel("dense_forward", "dense_forward_linear"),
    "relu": Kernel("dense_forward", "dense_forward_relu"),
    "maxout": Kernel("dense_forward", "dense_forward_maxout"),
}
BACKWARD_DATA = {
    "naive": Kernel("dense_backward_data", "dense_backward_data_naive"),
    "tiled": Kernel("dense_backward_data", "dense_backward_data_tiled"),
    "vectorised": Kernel("dense_backward_data", "dense_backward_data_vectorised"),
}
BACKWARD_DATA_SUM = Kernel("dense_backward_data", "dense_backward_data_sum")
BACKWARD_WEIGHTS = {
    "naive": Kernel("dense_backward_weights", "dense_backward_weights_naive"),
    "tiled": Kernel("dense_backward_weights", "dense_backward_weights_tiled"),
    "vectorised": Kernel("dense_backward_weights", "dense_backward_weights_vectorised"),
}
BACKWARD_WEIGHTS_SUM = Kernel("dense_backward_weights", "dense_backward_weights_sum")
BACKWARD_BIAS = {
    "naive": Kernel("dense_backward_bias", "dense_backward_bias_naive"),
    "warp": Kernel("dense_backward_bias", "dense_backward_bias_warp"),
}

_FORWARD_TILE, _DATA_TILE, _WEIGHTS_TILE = (256, 16), (256, 16), (128, 64)  # along x and y of the grid
_THREADS = 128  # of a tile's block
_BLOCKS = 512  # keep any GPU busy
_LEAST_TERMS, _MOST_TERMS, _TERMS_AT_ONCE = 128, 4096, 16  # of a part of a sum; of a tile

_ACTIVATIONS = {"linear": np.uint32(0), "relu": np.uint32(1), "maxout": np.uint32(2)}  # as in activation.cuh
_KEPT = {"relu": "y", "maxout": "code"}


def forward(x: Any, weight: Any, bias: Any, *, activation: str = "linear") -> tuple[Any, Any]:
    """Dense product, bias, activation.

    Args:
        x: (I, B).
        weight: (I, O).
        bias: (O,).
        activation: "linear", "relu" or "maxout".

    Returns:
        y (O, B) and None, or for maxout y (O/2, B) and its uint8 code.

    Raises:
        InputError: arrays that do not fit each other or the kernels; an odd O with maxout.
    """
    backend_of("dense", x=x, weight=weight, bias=bias)
    check.shape("dense", "x", x, (None, None))
    check.shape("dense", "weight", weight, (x.shape[0], None))
    check.shape("dense", "bias", bias, (weight.shape[1],))
    _require_activation(activation, weight.shape[1])
    return activate(product(x, weight), bias, activation)


def backward(
    x: Any,
    weight: Any,
    y: Any,
    code: Any,
    gradient: Any,
    *,
    activation: str = "linear",
    data: bool = True,
) -> tuple[Any, Any, Any]:
    """Gradients of :func:`forward`, from its inputs, its results and the gradient of y.

    Returns:
        dx (I, B), or None where ``data`` is false; dweight (I, O); dbias (O,).

    Raises:
        InputError: arrays that do not fit each other or the kernels.
    """
    kept = {"relu": y, "maxout": code}.get(activation)
    _require_gradient(gradient, kept, activation, x=x, weight=weight)
    check.shape("dense", "weight", weight, (x.shape[0], None))
    dx = backward_data(weight, gradient, kept, activation) if data else None
    return dx, backward_weights(x, gradient, kept, activation), backward_bias(gradient, kept, activation)


def product(x: Any, weight: Any, version: str | None = None) -> Any:
    """Partial sums of weightᵀ·x as (parts, B, O), by "naive", "tiled", or "vectorised" where 4 divides O."""
    backend = backend_of("dense", x=x, weight=weight)
    check.shape("dense", "x", x, (None, None))
    check.shape("dense", "weight", weight, (x.shape[0], None))
    (inputs, B), outputs = x.shape, weight.shape[1]
    version = by_fours("dense", version, "outputs", outputs, "tiled")
    kernel = choose("dense", FORWARD, version)
    part, parts = _parts(inputs, outputs, B, _FORWARD_TILE)
    partial = _empty(backend, "the partial sums", (parts, B, outputs))
    sizes = extents(inputs, outputs, B, part)
    kernel(backend, _geometry(version, outputs, B, parts, _FORWARD_TILE), x, weight, partial, *sizes)
    return partial


def activate(partial: Any, bias: Any, activation: str = "linear") -> tuple[Any, Any]:
    """What :func:`forward` returns, from the partial sums (parts, B, O) of the product."""
    backend = backend_of("dense", partial=partial, bias=bias)
    check.shape("dense", "bias", bias, (None,))
    check.shape("dense", "partial", partial, (None, None, bias.shape[0]))
    _require_activation(activation, bias.shape[0])
    parts, B, outputs = partial.shape
    kernel = ACTIVATE[activation]
    if activation == "maxout":
        y, code = backend.empty((outputs // 2, B)), backend.empty((outputs // 2, B), np.uint8)
        kernel(backend, elementwise(y.size), partial, bias, y, code, *extents(outputs, B, parts))
        return y, code
    y = backend.empty((outputs, B))
    kernel(backend, elementwise(y.size), partial, bias, y, *extents(outputs, B, parts))
    return y, None


def backward_data(
    weight: Any,
    gradient: Any,
    kept: Any = None,
    activation: str = "linear",
    scale: float = 1.0,
    version: str | None = None,
) -> Any:
    """Dx (I, B), by "naive", "tiled", or "vectorised" where 4 divides O."""
    backend = _require_gradient(gradient, kept, activation, weight=weight)
    (inputs, outputs), B = weight.shape, gradient.shape[1]
    version = by_fours("dense", version, "outputs", outputs, "tiled")
    kernel = choose("dense", BACKWARD_DATA, version)
    part, parts = _parts(outputs, inputs, B, _DATA_TILE)
    partial, dx = _empty(backend, "the partial sums", (parts, B, inputs)), backend.empty((inputs, B))
    arrays = weight, *_gradient(gradient, kept), partial
    sizes = *extents(inputs, outputs, B, part), *_after(activation, scale)
    kernel(backend, _geometry(version, inputs, B, parts, _DATA_TILE), *arrays, *sizes)
    BACKWARD_DATA_SUM(backend, elementwise(dx.size), partial, dx, *extents(inputs, B, parts))
    return dx


def backward_weights(
    x: Any,
    gradient: Any,
    kept: Any = None,
    activation: str = "linear",
    scale: float = 1.0,
    version: str | None = None,
) -> Any:
    """Dweight (I, O), by "naive", "tiled", or "vectorised" where 4 divides O."""
    backend = _require_gradient(gradient, kept, activation, x=x)
    (inputs, B), outputs = x.shape, _outputs(gradient, activation)
    version = by_fours("dense", version, "outputs", outputs, "tiled")
    kernel = choose("dense", BACKWARD_WEIGHTS, version)
    part, parts = _parts(B, outputs, inputs, _WEIGHTS_TILE)
    partial = _empty(backend, "the gradient of weight", (parts, inputs, outputs))
    arrays = x, *_gradient(gradient, kept), partial
    sizes = *extents(inputs, outputs, B, part), *_after(activation, scale)
    kernel(backend, _geometry(version, outputs, inputs, parts, _WEIGHTS_TILE), *arrays, *sizes)
    return partial[0] if parts == 1 else _sum_of_weights(backend, partial)


def backward_bias(
    gradient: Any, kept: Any = None, activation: str = "linear", scale: float = 1.0, version: str | None = None
) -> Any:
    """Dbias (O,), by "naive" or "warp"."""
    backend = _require_gradient(gradient, kept, activation)
    outputs, B = _outputs(gradient, activation), gradient.shape[1]
    version = version or "warp"
    kernel = choose("dense", BACKWARD_BIAS, version)
    dbias = backend.empty((outputs,))
    geometry = elementwise(outputs if version == "naive" else 32 * outputs)
    kernel(backend, geometry, *_gradient(gradient, kept), dbias, *extents(outputs, B), *_after(activation, scale))
    return dbias


def _sum_of_weights(backend: Backend, partial: Any) -> Any:
    parts, *shape = partial.shape
    dweight = backend.empty(tuple(shape))
    BACKWARD_WEIGHTS_SUM(backend, elementwise(dweight.size), partial, dweight, *extents(dweight.size, parts))
    return dweight


def _require_activation(activation: str, outputs: int) -> None:
    if activation not in _ACTIVATIONS:
        raise InputError(f"dense: activation is {activation!r}, expected linear, relu or maxout")
    if activation == "maxout" and outputs % 2:
        raise InputError(f"dense: weight has {outputs} columns, expected an even number for maxout (two pieces a unit)")


def _require_gradient(gradient: Any, kept: Any, activation: str, **inputs: Any) -> Backend:
    """Check what a backward pass reads, ``inputs`` being x, weight, both or neither."""
    _require_activation(activation, outputs=0)
    arrays = {**inputs, "gradient": gradient}
    if activation in _KEPT:
        arrays[_KEPT[activation]] = kept
    backend = backend_of("dense", {"code": np.uint8}, **arrays)
    check.shape("dense", "gradient", gradient, (None, None))
    shapes = {"x": (None, gradient.shape[1]), "weight": (None, _outputs(gradient, activation))}
    for name, array in arrays.items():
        check.shape("dense", name, array, shapes.get(name, gradient.shape))
    return backend


def _outputs(gradient: Any, activation: str) -> int:
    """The rows of z."""
    return gradient.shape[0] * (2 if activation == "maxout" else 1)


def _gradient(gradient: Any, kept: Any) -> tuple[Any, Any]:
    """The two arrays that kernels rebuild the gradient of z from; of a linear layer they read one alone."""
    return gradient, gradient if kept is None else kept


def _after(activation: str, scale: float) -> tuple[np.uint32, np.float32]:
    """What followed z, as backward kernels take it: the activation, and the scale of what dropout kept."""
    return _ACTIVATIONS[activation], np.float32(scale)


def _parts(terms: int, rows: int, columns: int, tile: tuple[int, int]) -> tuple[int, int]:
    """Terms of a part, and parts, of each of rows × columns sums: enough blocks for a GPU, no long chain."""
    tiles = ceil_div(rows, tile[0]) * ceil_div(columns, tile[1])
    part = min(max(ceil_div(terms * tiles, _BLOCKS), _LEAST_TERMS), _MOST_TERMS)
    part = ceil_div(part, _TERMS_AT_ONCE) * _TERMS_AT_ONCE
    return part, max(ceil_div(terms, part), 1)


def _geometry(version: str, rows: int, columns: int, parts: int, tile: tuple[int, int]) -> Geometry:
    if version == "naive":
        return Geometry((ceil_div(rows * columns, 256), parts), (256,))
    return Geometry((ceil_div(rows, tile[0]), ceil_div(columns, tile[1]), parts), (_THREADS,))


def _empty(backend: Backend, name: str, shape: tuple[int, ...]) -> Any:
    require_size("dense", name, shape)
    return backend.empty(shape)
