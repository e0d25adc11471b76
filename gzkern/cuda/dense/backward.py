"""The backward pass of a dense layer, with the update of its weights; ``kernels/dense/backward_*.cu``.

Beside the operation :func:`backward` stands one function a pass, by a version that may be chosen: for benchmarks and
tests. Their ``saved`` is y by "relu", the code by "maxout", None by "linear"; ``scale`` is that of the mask by which
y was dropped, 1 without. For the precisions see ``dense.forward``.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any

import numpy as np

from ...core import arguments
from ...core.dropout_mask import DropoutMask
from ...core.fused_update import FusedUpdate
from ...errors import InputError
from ...runtime.arrays import backend_of, number
from ...runtime.backend import Backend
from ...runtime.kernel import LONGEST_CHAIN, Geometry, by_fours, ceil_div, choose, elementwise, extents, kernel
from .. import nesterov
from . import backward_data_mma, backward_weights_mma
from .launches import Gradient, empty, four_columns, geometry, parts_of
from .mma import PRECISIONS, tensor_cores_pay

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

_DATA_TILE, _WEIGHTS_TILE = (256, 16), (128, 64)  # along x and y of the grid
_UPDATE_TILE = (32, 128)  # of weights: inputs along x of the grid, outputs


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
    arguments.precision("dense", precision, PRECISIONS)
    saved = arguments.saved(activation, y, code)
    backend = _checked(gradient, activation, saved, x=x, weight=weight)
    if update is not None:
        _check_update(weight, update)
    layer = Gradient(
        gradient, next(iter(saved.values()), gradient), activation, 1.0 if drop is None else float(drop.scale)
    )
    dbias = _bias(backend, layer, None)
    if update is None:
        dx = _data(backend, weight, layer, None, precision) if data else None
        return dx, _weights(backend, x, layer, None, precision), dbias
    if data and not update.side_stream and x.shape[1] <= MOST_COLUMNS:
        return _update_data(backend, x, weight, layer, update, None), None, dbias
    dx = _data(backend, weight, layer, None, precision) if data else None
    with backend.side_stream() if update.side_stream else nullcontext():
        _update(backend, x, weight, layer, update, None, precision)
    return dx, None, dbias


def backward_data(
    weight: Any,
    gradient: Any,
    saved: Any = None,
    activation: str = "linear",
    scale: float = 1.0,
    version: str | None = None,
    precision: str = "fp32",
) -> Any:
    """dx (I, B), by the versions of ``dense.forward.product``."""
    arguments.precision("dense", precision, PRECISIONS)
    backend = _checked(gradient, activation, arguments.saved(activation, saved, saved), weight=weight)
    return _data(backend, weight, _layer(gradient, saved, activation, scale), version, precision)


def backward_weights(
    x: Any,
    gradient: Any,
    saved: Any = None,
    activation: str = "linear",
    scale: float = 1.0,
    version: str | None = None,
    precision: str = "fp32",
) -> Any:
    """dweight (I, O), by the versions of ``dense.forward.product``."""
    arguments.precision("dense", precision, PRECISIONS)
    backend = _checked(gradient, activation, arguments.saved(activation, saved, saved), x=x)
    return _weights(backend, x, _layer(gradient, saved, activation, scale), version, precision)


def backward_bias(
    gradient: Any, saved: Any = None, activation: str = "linear", scale: float = 1.0, version: str | None = None
) -> Any:
    """dbias (O,), by "naive" or "warp"."""
    backend = _checked(gradient, activation, arguments.saved(activation, saved, saved))
    return _bias(backend, _layer(gradient, saved, activation, scale), version)


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
    """Weight and velocity moved by :func:`backward_weights`, by the versions of ``dense.forward.product``.

    Without a version more images than MOST_FUSED on tensor cores, or MOST_FUSED_IN_FP32, have their gradient stored;
    :mod:`gzkern.cuda.nesterov` then moves. By a version it is so with more than one sum takes.
    """
    arguments.precision("dense", precision, PRECISIONS)
    backend = _checked(gradient, activation, arguments.saved(activation, saved, saved), x=x, weight=weight)
    _check_update(weight, update)
    _update(backend, x, weight, _layer(gradient, saved, activation, scale), update, version, precision)


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
    backend = _checked(gradient, activation, arguments.saved(activation, saved, saved), x=x, weight=weight)
    _check_update(weight, update)
    if x.shape[1] > MOST_COLUMNS:
        raise InputError(
            f"dense: x has {x.shape[1]} columns, expected at most {MOST_COLUMNS} for both gradients in one pass"
        )
    return _update_data(backend, x, weight, _layer(gradient, saved, activation, scale), update, version)


def _checked(gradient: Any, activation: str, saved: Mapping[str, Any], **inputs: Any) -> Backend:
    """Check what a pass reads; its device."""
    arrays = {**inputs, **saved}
    backend = backend_of("dense", {"code": np.uint8}, **arrays, gradient=gradient)
    arguments.dense_backward(activation, gradient, **arrays)
    return backend


def _check_update(weight: Any, update: FusedUpdate) -> None:
    """Check what an update moves."""
    arrays = {"weight": weight, "velocity": update.velocity, "first_bad": update.first_bad}
    backend_of("dense", {"first_bad": np.int64}, **arrays)
    arguments.number("dense", "rate", update.rate, np.float32)
    arguments.shape("dense", "velocity", update.velocity, weight.shape)
    arguments.shape("dense", "first_bad", update.first_bad, (1,))
    arguments.writable("dense", weight=weight, velocity=update.velocity)


def _layer(gradient: Any, saved: Any, activation: str, scale: float) -> Gradient:
    return Gradient(gradient, gradient if saved is None else saved, activation, scale)


def _data(backend: Backend, weight: Any, layer: Gradient, version: str | None, precision: str) -> Any:
    (inputs, outputs), B = weight.shape, layer.images
    if version is None and precision != "fp32" and tensor_cores_pay(precision, outputs, B):
        partial = backward_data_mma.product(backend, weight, layer, precision)
        return _sum_of_data(backend, partial)
    version = by_fours("dense", version, "outputs", outputs, "tiled")
    kernel = choose("dense", BACKWARD_DATA, version)
    part, parts = parts_of(outputs, inputs, B, _DATA_TILE)
    partial = empty(backend, "the partial sums", (parts, B, inputs))
    arrays = weight, *layer.sources, partial
    sizes = *extents(inputs, outputs, B, part), *layer.after
    kernel(backend, geometry(version, inputs, B, parts, _DATA_TILE), *arrays, *sizes)
    return _sum_of_data(backend, partial)


def _weights(backend: Backend, x: Any, layer: Gradient, version: str | None, precision: str) -> Any:
    (inputs, B), outputs = x.shape, layer.outputs
    if version is None and precision != "fp32" and tensor_cores_pay(precision, outputs, B):
        partial = backward_weights_mma.product(backend, x, layer, precision)
        return _sum_of_weights(backend, partial)
    version = by_fours("dense", version, "outputs", outputs, "tiled")
    kernel = choose("dense", BACKWARD_WEIGHTS, version)
    part, parts = parts_of(B, outputs, inputs, _WEIGHTS_TILE)
    partial = empty(backend, "the gradient of weight", (parts, inputs, outputs))
    arrays = x, *layer.sources, partial
    sizes = *extents(inputs, outputs, B, part), *layer.after
    kernel(backend, geometry(version, outputs, inputs, parts, _WEIGHTS_TILE), *arrays, *sizes)
    return _sum_of_weights(backend, partial)


def _bias(backend: Backend, layer: Gradient, version: str | None) -> Any:
    outputs, B = layer.outputs, layer.images
    version = version or "warp"
    kernel = choose("dense", BACKWARD_BIAS, version)
    dbias = backend.empty((outputs,))
    geometry = elementwise(outputs if version == "naive" else 32 * outputs)
    kernel(backend, geometry, *layer.sources, dbias, *extents(outputs, B), *layer.after)
    return dbias


def _update(
    backend: Backend, x: Any, weight: Any, layer: Gradient, update: FusedUpdate, version: str | None, precision: str
) -> None:
    (inputs, outputs), B = weight.shape, x.shape[1]
    most = MOST_FUSED if precision != "fp32" and tensor_cores_pay(precision, outputs, B) else MOST_FUSED_IN_FP32
    if (most if version is None else LONGEST_CHAIN) < B:
        dweight = _weights(backend, x, layer, None, precision)
        how = update.rate, update.momentum, update.first_bad
        nesterov.launch(backend, weight, update.velocity, dweight, *how)
        return
    version = by_fours("dense", version, "outputs", outputs, "tiled")
    kernel = choose("dense", BACKWARD_UPDATE, version)
    naive = version == "naive"
    part, parts = parts_of(outputs, inputs, 1, (_UPDATE_TILE[0], 1), at_once=_UPDATE_TILE[1])
    arrays = x, *layer.sources, weight, update.velocity
    sizes = extents(inputs, outputs, B) if naive else extents(inputs, outputs, B, part)
    geometry = elementwise(weight.size) if naive else _update_geometry(inputs, parts)
    kernel(backend, geometry, *arrays, *sizes, *layer.after, *_motion(backend, update))


def _update_data(
    backend: Backend, x: Any, weight: Any, layer: Gradient, update: FusedUpdate, version: str | None
) -> Any:
    (inputs, outputs), B = weight.shape, x.shape[1]
    version = by_fours("dense", version, "outputs", outputs, "tiled")
    kernel = choose("dense", BACKWARD_UPDATE_DATA, version)
    part, parts = parts_of(outputs, inputs, 1, (_UPDATE_TILE[0], 1), at_once=_UPDATE_TILE[1])
    partial = empty(backend, "the partial sums", (parts, B, inputs))
    arrays = x, *layer.sources, weight, update.velocity, partial
    sizes = *extents(inputs, outputs, B, part), *layer.after
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


def _motion(backend: Backend, update: FusedUpdate) -> tuple[Any, ...]:
    """Arguments of the kernels that move weights."""
    return number(backend, update.rate, np.float32), np.float32(update.momentum), update.first_bad


def _update_geometry(inputs: int, parts: int) -> Geometry:
    """Blocks of a tile's rows, with two tiles of weights and velocities in shared memory."""
    rows, columns = _UPDATE_TILE
    return Geometry((ceil_div(inputs, rows), parts), (rows * columns // 16,), 4 * rows * columns * 4)
