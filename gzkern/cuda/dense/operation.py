"""Dense layer on (features, B) arrays: product, bias, activation and their gradients; ``kernels/dense_*.cu``.

Arrays are float32, codes uint8. Below the two operations stands one function a kernel, or a product kernel and the one
that adds up its parts; ``saved`` and ``scale`` are those of ``dense_common``.

In ``precision`` "tf32" and "fp32x3", which is three tf32 products with float32's error, products run on tensor cores
where there are images enough and kernels for the sizes; all else is computed in fp32, which is as exact. "bf16" is for
prediction: x, weight and y are uint16, the bits of bfloat16.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import numpy as np

from ...core import arguments
from ...core import arguments as check
from ...core.dropout_mask import DropoutMask
from ...core.fused_update import FusedUpdate
from ...errors import InputError
from ...runtime.arrays import backend_of, number
from ...runtime.backend import Backend
from ...runtime.kernel import Geometry, by_fours, ceil_div, choose, elementwise, extents, kernel
from .. import nesterov
from . import backward_data_mma as dense_backward_data_mma
from . import backward_weights_mma as dense_backward_weights_mma
from . import forward_mma as dense_forward_mma
from . import mma as dense_mma
from .activation import (
    LONGEST_CHAIN,
    after,
    empty,
    four_columns,
    outputs_of,
    require_activation,
    require_gradient,
    require_precision,
    sources,
)

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
BACKWARD_DATA = {
    "naive": kernel("dense/backward_data", "naive"),
    "tiled": kernel("dense/backward_data", "tiled"),
    "vectorised": kernel("dense/backward_data", "vectorised"),
}
BACKWARD_DATA_SUM = kernel("dense/backward_data", "sum")
BACKWARD_WEIGHTS = {
    "naive": kernel("dense/backward_weights", "naive"),
    "tiled": kernel("dense/backward_weights", "tiled"),
    "vectorised": kernel("dense/backward_weights", "vectorised"),
}
BACKWARD_WEIGHTS_SUM = kernel("dense/backward_weights", "sum")
BACKWARD_BIAS = {
    "naive": kernel("dense/backward_bias", "naive"),
    "warp": kernel("dense/backward_bias", "warp"),
}
BACKWARD_UPDATE = {
    "naive": kernel("dense/backward_update", "naive"),
    "tiled": kernel("dense/backward_update", "tiled"),
    "vectorised": kernel("dense/backward_update", "vectorised"),
}
BACKWARD_UPDATE_DATA = {
    "naive": kernel("dense/backward_update", "data_naive"),
    "tiled": kernel("dense/backward_update", "data_tiled"),
    "vectorised": kernel("dense/backward_update", "data_vectorised"),
}

PRECISIONS = ("fp32", *dense_backward_data_mma.KERNELS)
"""Of both passes; the forward pass has bf16, too."""

LEAST_IMAGES = 32
"""From which on tensor cores pay: with fewer, a product waits for the weights alone."""

MOST_FUSED = 64
"""Images up to which fp32 moves the weights, while it sums up their gradient, sooner than tensor cores store it."""

MOST_FUSED_IN_FP32 = 256
"""The same where fp32 stores it.

Weights that move with their gradient save its storing and loading, which cost the same for any number of images. But
for each image a thread sums up 4 × 4 gradients, and loads a number from shared memory for every two products; that of
:func:`backward_weights`, which holds no weights, sums up 16 × 4, and loads one for every three. By a count of
instructions, not by a measurement, some 300 images cost what is saved.
"""

MOST_COLUMNS = 16
"""Images of which :func:`backward_update_data` adds up the gradients of x while it moves the weights."""

_FORWARD_TILE, _DATA_TILE, _WEIGHTS_TILE = (256, 16), (256, 16), (128, 64)  # along x and y of the grid
_UPDATE_TILE = (32, 128)  # of weights: inputs along x of the grid, outputs
_THREADS = 128  # of a tile's block
_BLOCKS = 512  # keep any GPU busy
_LEAST_TERMS, _TERMS_AT_ONCE = 128, 16  # of a part of a sum; of a tile


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
    backend_of("dense", {"x": dtype, "weight": dtype}, x=x, weight=weight, bias=bias)
    check.shape("dense", "x", x, (None, None))
    check.shape("dense", "weight", weight, (x.shape[0], None))
    check.shape("dense", "bias", bias, (weight.shape[1],))
    require_activation(activation, weight.shape[1])
    if not bf16:
        return activate(product(x, weight, precision=precision), bias, activation, drop)
    if drop is not None:
        raise InputError("dense: drop is given, expected None in bf16, which is for prediction")
    partial = dense_forward_mma.product(x, weight, precision)
    if activation == "linear":
        return activate(partial, bias)
    return dense_forward_mma.activate(partial, bias, activation), None


def backward(
    x: Any,
    weight: Any,
    y: Any,
    code: Any,
    gradient: Any,
    *,
    activation: str = "linear",
    data: bool = True,
    drop: DropoutMask | None = None,
    update: FusedUpdate | None = None,
    precision: str = "fp32",
) -> tuple[Any, Any, Any]:
    """Gradients of :func:`forward`, from its inputs, its results and the gradient of y.

    With ``update`` the weights move, in place, once the gradient of x is computed from them.

    Returns:
        dx (I, B), or None where ``data`` is false; dweight (I, O), or None with ``update``; dbias (O,).

    Raises:
        InputError: arrays that do not fit each other or the kernels.
    """
    saved = {"relu": y, "maxout": code}.get(activation)
    backend = require_gradient(gradient, saved, activation, x=x, weight=weight)
    check.shape("dense", "weight", weight, (x.shape[0], None))
    require_precision(precision, PRECISIONS)
    layer = saved, activation, 1.0 if drop is None else float(drop.scale)
    dbias = backward_bias(gradient, *layer)
    if update is None:
        dx = backward_data(weight, gradient, *layer, precision=precision) if data else None
        return dx, backward_weights(x, gradient, *layer, precision=precision), dbias
    if data and not update.side_stream and x.shape[1] <= MOST_COLUMNS:
        return backward_update_data(x, weight, gradient, update, *layer), None, dbias
    dx = backward_data(weight, gradient, *layer, precision=precision) if data else None
    with backend.side_stream() if update.side_stream else nullcontext():
        backward_update(x, weight, gradient, update, *layer, precision=precision)
    return dx, None, dbias


def product(x: Any, weight: Any, version: str | None = None, precision: str = "fp32") -> Any:
    """Partial sums of weightᵀ·x as (parts, B, O).

    By a ``version`` in fp32, "naive", "tiled", or "vectorised" where 4 divides O; without one by the fastest, in a
    precision of PRECISIONS or "bf16".
    """
    backend = backend_of("dense", x=x, weight=weight)
    check.shape("dense", "x", x, (None, None))
    check.shape("dense", "weight", weight, (x.shape[0], None))
    (inputs, B), outputs = x.shape, weight.shape[1]
    require_precision(precision, (*PRECISIONS, "bf16"))
    if version is None and _pays(precision, outputs, B):
        return dense_forward_mma.product(x, weight, precision)
    version = by_fours("dense", version, "outputs", outputs, "tiled")
    kernel = choose("dense", FORWARD, version)
    part, parts = _parts(inputs, outputs, B, _FORWARD_TILE)
    partial = empty(backend, "the partial sums", (parts, B, outputs))
    sizes = extents(inputs, outputs, B, part)
    kernel(backend, _geometry(version, outputs, B, parts, _FORWARD_TILE), x, weight, partial, *sizes)
    return partial


def activate(partial: Any, bias: Any, activation: str = "linear", drop: DropoutMask | None = None) -> tuple[Any, Any]:
    """What :func:`forward` returns, from the partial sums (parts, B, O) of the product."""
    backend = backend_of("dense", partial=partial, bias=bias)
    check.shape("dense", "bias", bias, (None,))
    check.shape("dense", "partial", partial, (None, None, bias.shape[0]))
    require_activation(activation, bias.shape[0])
    parts, B, outputs = partial.shape
    kernels, words = (ACTIVATE, ()) if drop is None else (ACTIVATE_AND_DROP, _dropout(backend, drop, activation))
    maxout = activation == "maxout"
    y = backend.empty((outputs // 2 if maxout else outputs, B))
    code = backend.empty(y.shape, np.uint8) if maxout else None
    results = (y, code) if maxout else (y,)
    sizes = extents(outputs, B, parts)
    kernels[activation](backend, four_columns(y.shape, parts), partial, bias, *results, *sizes, *words)
    return y, code


def backward_data(
    weight: Any,
    gradient: Any,
    saved: Any = None,
    activation: str = "linear",
    scale: float = 1.0,
    version: str | None = None,
    precision: str = "fp32",
) -> Any:
    """Dx (I, B), by the versions of :func:`product`."""
    backend = require_gradient(gradient, saved, activation, weight=weight)
    (inputs, outputs), B = weight.shape, gradient.shape[1]
    require_precision(precision, PRECISIONS)
    if version is None and _pays(precision, outputs, B):
        partial = dense_backward_data_mma.product(weight, gradient, saved, activation, scale, precision)
        return _sum_of_data(backend, partial)
    version = by_fours("dense", version, "outputs", outputs, "tiled")
    kernel = choose("dense", BACKWARD_DATA, version)
    part, parts = _parts(outputs, inputs, B, _DATA_TILE)
    partial = empty(backend, "the partial sums", (parts, B, inputs))
    arrays = weight, *sources(gradient, saved), partial
    sizes = *extents(inputs, outputs, B, part), *after(activation, scale)
    kernel(backend, _geometry(version, inputs, B, parts, _DATA_TILE), *arrays, *sizes)
    return _sum_of_data(backend, partial)


def backward_weights(
    x: Any,
    gradient: Any,
    saved: Any = None,
    activation: str = "linear",
    scale: float = 1.0,
    version: str | None = None,
    precision: str = "fp32",
) -> Any:
    """Dweight (I, O), by the versions of :func:`product`."""
    backend = require_gradient(gradient, saved, activation, x=x)
    (inputs, B), outputs = x.shape, outputs_of(gradient, activation)
    require_precision(precision, PRECISIONS)
    if version is None and _pays(precision, outputs, B):
        partial = dense_backward_weights_mma.product(x, gradient, saved, activation, scale, precision)
        return _sum_of_weights(backend, partial)
    version = by_fours("dense", version, "outputs", outputs, "tiled")
    kernel = choose("dense", BACKWARD_WEIGHTS, version)
    part, parts = _parts(B, outputs, inputs, _WEIGHTS_TILE)
    partial = empty(backend, "the gradient of weight", (parts, inputs, outputs))
    arrays = x, *sources(gradient, saved), partial
    sizes = *extents(inputs, outputs, B, part), *after(activation, scale)
    kernel(backend, _geometry(version, outputs, inputs, parts, _WEIGHTS_TILE), *arrays, *sizes)
    return _sum_of_weights(backend, partial)


def backward_bias(
    gradient: Any, saved: Any = None, activation: str = "linear", scale: float = 1.0, version: str | None = None
) -> Any:
    """Dbias (O,), by "naive" or "warp"."""
    backend = require_gradient(gradient, saved, activation)
    outputs, B = outputs_of(gradient, activation), gradient.shape[1]
    version = version or "warp"
    kernel = choose("dense", BACKWARD_BIAS, version)
    dbias = backend.empty((outputs,))
    geometry = elementwise(outputs if version == "naive" else 32 * outputs)
    kernel(backend, geometry, *sources(gradient, saved), dbias, *extents(outputs, B), *after(activation, scale))
    return dbias


def backward_update(
    x: Any,
    weight: Any,
    gradient: Any,
    update: FusedUpdate,
    saved: Any = None,
    activation: str = "linear",
    scale: float = 1.0,
    version: str | None = None,
    precision: str = "fp32",
) -> None:
    """Weight and velocity moved by :func:`backward_weights`, by the versions of :func:`product`.

    Without a version more images than MOST_FUSED on tensor cores, or MOST_FUSED_IN_FP32, have their gradient stored;
    :mod:`gzkern.cuda.nesterov` then moves. By a version it is so with more than one sum takes.
    """
    backend = _require_update(x, weight, gradient, update, saved, activation)
    (inputs, outputs), B = weight.shape, x.shape[1]
    most = MOST_FUSED if _pays(precision, outputs, B) else MOST_FUSED_IN_FP32
    if (most if version is None else LONGEST_CHAIN) < B:
        dweight = backward_weights(x, gradient, saved, activation, scale, precision=precision)
        how = update.rate, update.momentum, update.first_bad
        return nesterov.update(weight, update.velocity, dweight, *how)
    version = by_fours("dense", version, "outputs", outputs, "tiled")
    kernel = choose("dense", BACKWARD_UPDATE, version)
    naive = version == "naive"
    part, parts = _parts(outputs, inputs, 1, (_UPDATE_TILE[0], 1), at_once=_UPDATE_TILE[1])
    arrays = x, *sources(gradient, saved), weight, update.velocity
    sizes = extents(inputs, outputs, B) if naive else extents(inputs, outputs, B, part)
    geometry = elementwise(weight.size) if naive else _update_geometry(inputs, parts)
    kernel(backend, geometry, *arrays, *sizes, *after(activation, scale), *_motion(backend, update))


def backward_update_data(
    x: Any,
    weight: Any,
    gradient: Any,
    update: FusedUpdate,
    saved: Any = None,
    activation: str = "linear",
    scale: float = 1.0,
    version: str | None = None,
) -> Any:
    """:func:`backward_data`, and :func:`backward_update` in the same pass over the weights; the same versions.

    Raises:
        InputError: more than MOST_COLUMNS images.
    """
    backend = _require_update(x, weight, gradient, update, saved, activation)
    (inputs, outputs), B = weight.shape, x.shape[1]
    if B > MOST_COLUMNS:
        raise InputError(f"dense: x has {B} columns, expected at most {MOST_COLUMNS} for both gradients in one pass")
    version = by_fours("dense", version, "outputs", outputs, "tiled")
    kernel = choose("dense", BACKWARD_UPDATE_DATA, version)
    part, parts = _parts(outputs, inputs, 1, (_UPDATE_TILE[0], 1), at_once=_UPDATE_TILE[1])
    partial = empty(backend, "the partial sums", (parts, B, inputs))
    arrays = x, *sources(gradient, saved), weight, update.velocity, partial
    sizes = *extents(inputs, outputs, B, part), *after(activation, scale)
    blocks = Geometry((ceil_div(inputs, 256), parts), (256,))
    geometry = blocks if version == "naive" else _update_geometry(inputs, parts)
    kernel(backend, geometry, *arrays, *sizes, *_motion(backend, update))
    return _sum_of_data(backend, partial)


def _sum_of_data(backend: Backend, partial: Any) -> Any:
    parts, B, inputs = partial.shape
    dx = backend.empty((inputs, B))
    BACKWARD_DATA_SUM(backend, four_columns(dx.shape, parts), partial, dx, *extents(inputs, B, parts))
    return dx


def _sum_of_weights(backend: Backend, partial: Any) -> Any:
    parts, *shape = partial.shape
    if parts == 1:
        return partial[0]
    dweight = backend.empty(tuple(shape))
    BACKWARD_WEIGHTS_SUM(backend, elementwise(dweight.size), partial, dweight, *extents(dweight.size, parts))
    return dweight


def _pays(precision: str, outputs: int, B: int) -> bool:
    """Whether there are kernels of tensor cores for a training step's precision and sizes, and work for them."""
    return precision in ("tf32", "fp32x3") and B >= LEAST_IMAGES and dense_mma.takes(outputs, B, precision)


def _require_update(x: Any, weight: Any, gradient: Any, update: FusedUpdate, saved: Any, activation: str) -> Backend:
    """Check what :func:`backward_update` reads and moves."""
    require_gradient(gradient, saved, activation, x=x, weight=weight)
    check.shape("dense", "weight", weight, (x.shape[0], None))
    check.shape("dense", "velocity", update.velocity, weight.shape)
    check.shape("dense", "first_bad", update.first_bad, (1,))
    arguments.writable("dense", weight=weight, velocity=update.velocity)
    arrays = {"weight": weight, "velocity": update.velocity, "first_bad": update.first_bad}
    return backend_of("dense", {"first_bad": np.int64}, **arrays)


def _dropout(backend: Backend, drop: DropoutMask, activation: str) -> tuple[Any, ...]:
    """A mask as the activation kernels take it."""
    if activation not in ACTIVATE_AND_DROP:
        raise InputError(f"dense: drop is given, expected None: what a {activation} layer drops leaves no trace in y")
    return *drop.key, np.uint32(drop.layer), number(backend, drop.step, np.int64), drop.threshold, drop.scale


def _motion(backend: Backend, update: FusedUpdate) -> tuple[Any, ...]:
    """How the weights move, as the kernels take it."""
    return number(backend, update.rate, np.float32), np.float32(update.momentum), update.first_bad


def _parts(
    terms: int, rows: int, columns: int, tile: tuple[int, int], at_once: int = _TERMS_AT_ONCE
) -> tuple[int, int]:
    """Terms of a part, and parts, of each of rows × columns sums: enough blocks for a GPU, no long chain."""
    tiles = ceil_div(rows, tile[0]) * ceil_div(columns, tile[1])
    part = min(max(ceil_div(terms * tiles, _BLOCKS), _LEAST_TERMS), LONGEST_CHAIN)
    part = ceil_div(part, at_once) * at_once
    return part, max(ceil_div(terms, part), 1)


def _geometry(version: str, rows: int, columns: int, parts: int, tile: tuple[int, int]) -> Geometry:
    if version == "naive":
        return Geometry((ceil_div(rows * columns, 256), parts), (256,))
    return Geometry((ceil_div(rows, tile[0]), ceil_div(columns, tile[1]), parts), (_THREADS,))


def _update_geometry(inputs: int, parts: int) -> Geometry:
    """Blocks of a tile's rows, with two tiles of weights and velocities in shared memory."""
    rows, columns = _UPDATE_TILE
    return Geometry((ceil_div(inputs, rows), parts), (rows * columns // 16,), 4 * rows * columns * 4)
