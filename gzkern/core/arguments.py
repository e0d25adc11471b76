"""Checks of the arrays that reach an operation, the same sentences on every device.

The modules ``cpu/<operation>`` and ``cuda/<operation>`` check their arguments once, by the functions here; what they
call does not check. A function that bears an operation's name knows how the shapes of its arrays depend on each other.
:func:`host_arrays` is the CPU's check of types; the kernel devices have ``runtime.arrays.backend_of`` for it.

Every function raises InputError with one sentence that names operation, argument, expected and got.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from ..errors import InputError
from .shapes import VIEWS, Conv2dSizes, pool_extent

EPILOGUES = ("plain", "relu", "pool")
"""Epilogues of a convolution: none, ReLU, ReLU and 2×2 max-pool."""

ACTIVATIONS = ("linear", "relu", "maxout")
"""Activations of a dense layer."""

_SAVED = {"relu": "y", "pool": "code", "maxout": "code"}


def shape(op: str, name: str, array: Any, expected: tuple[int | None, ...]) -> None:
    """Refuse an array whose shape is not ``expected``; None stands for any extent."""
    fits = array.ndim == len(expected) and all(
        want is None or want == got for want, got in zip(expected, array.shape, strict=True)
    )
    if not fits:
        wanted = ", ".join("any" if extent is None else str(extent) for extent in expected)
        raise InputError(f"{op}: {name} has shape {array.shape}, expected ({wanted})")


def host_arrays(op: str, dtypes: Mapping[str, Any] | None = None, /, **arrays: Any) -> None:
    """Refuse what is no NumPy array, and another dtype than expected.

    Args:
        op: the operation, for the message.
        dtypes: of the arrays that are not floating point, by name; the others share the dtype of the first of them.
        arrays: by name.
    """
    dtypes = dtypes or {}
    common: Any = None
    for name, array in arrays.items():
        if not isinstance(array, np.ndarray | np.generic):  # a loss is a NumPy scalar
            raise InputError(f"{op}: {name} is {type(array).__name__}, expected a NumPy array")
        if name in dtypes:
            expected = np.dtype(dtypes[name])
        else:
            common = expected = array.dtype if common is None else common
            if not np.issubdtype(expected, np.floating):
                raise InputError(f"{op}: {name} has dtype {array.dtype}, expected a floating-point one")
        if array.dtype != expected:
            raise InputError(f"{op}: {name} has dtype {array.dtype}, expected {expected}")


def writable(op: str, **arrays: Any) -> None:
    """Refuse an array that is to be updated in place and must not be."""
    for name, array in arrays.items():
        if not getattr(array.flags, "writeable", True):
            raise InputError(f"{op}: {name} is updated in place, and is read-only; copy it first")


def contiguous(op: str, **arrays: Any) -> None:
    """Refuse an array that is to be updated in place and is not C-contiguous."""
    for name, array in arrays.items():
        if not array.flags.c_contiguous:
            raise InputError(f"{op}: {name} has strides {array.strides}, expected a C-contiguous array; copy it first")


def number(op: str, name: str, value: Any, dtype: Any) -> None:
    """Refuse what is neither a number nor an array (1,) of a dtype."""
    if isinstance(value, int | float | np.number):
        return
    if getattr(value, "shape", None) != (1,) or value.dtype != dtype:
        raise InputError(f"{op}: {name} is {value!r}, expected a number, or an array (1,) of {np.dtype(dtype)}")


def precision(op: str, asked: str, offered: Iterable[str]) -> None:
    """Refuse a precision that is not offered."""
    if asked not in offered:
        raise InputError(f"{op}: precision is {asked!r}, expected {' or '.join(offered)}")


def only_fp32(op: str, asked: str) -> None:
    """Refuse another precision on the CPU."""
    if asked != "fp32":
        raise InputError(f"{op}: precision is {asked!r}, the CPU computes in 'fp32' alone")


def saved(followed_by: str, y: Any, code: Any) -> dict[str, Any]:
    """The result of the forward pass that a backward pass reads, by name.

    Args:
        followed_by: the epilogue of a convolution, or the activation of a dense layer.
        y: its result.
        code: its codes.
    """
    name = _SAVED.get(followed_by)
    return {} if name is None else {name: {"y": y, "code": code}[name]}


# Operations


def conv2d_sizes(x: Any, weight: Any) -> Conv2dSizes:
    """The extents of a convolution of x (C, H, W, N) with weight (C, R, S, K)."""
    shape("conv2d", "x", x, (None, None, None, None))
    shape("conv2d", "weight", weight, (x.shape[0], None, None, None))
    sizes = Conv2dSizes(*x.shape, *weight.shape[1:])
    if sizes.R > sizes.H or sizes.S > sizes.W or min(sizes.R, sizes.S) < 1:
        raise InputError(
            f"conv2d: weight has filters of {sizes.R}×{sizes.S}, expected at least 1×1 and at most the image of "
            f"{sizes.H}×{sizes.W}"
        )
    return sizes


def conv2d_forward(x: Any, weight: Any, bias: Any) -> Conv2dSizes:
    """The extents of a convolution, whose bias is (K, P, Q)."""
    sizes = conv2d_sizes(x, weight)
    shape("conv2d", "bias", bias, (sizes.K, sizes.P, sizes.Q))
    return sizes


def conv2d_backward(sizes: Conv2dSizes, epilogue: str, **arrays: Any) -> None:
    """Check what a backward pass reads: ``x`` and ``weight`` (if it reads them), ``gradient``, ``y`` or ``code``."""
    conv2d_epilogue(epilogue)
    shapes = {"x": sizes.x, "weight": sizes.weight}
    for name, array in arrays.items():
        shape("conv2d", name, array, shapes.get(name, sizes.y(epilogue)))


def conv2d_epilogue(epilogue: str) -> None:
    """Refuse an unknown epilogue."""
    if epilogue not in EPILOGUES:
        raise InputError(f"conv2d: epilogue is {epilogue!r}, expected {' or '.join(EPILOGUES)}")


def conv2d_epilogue_of(activate: bool, pool: bool) -> str:
    """The epilogue of a forward pass; a pool needs ReLU before it."""
    if pool and not activate:
        raise InputError("conv2d: a pool without ReLU has no code byte; leave activate on, or pool apart")
    return "pool" if pool else "relu" if activate else "plain"


def dense_forward(x: Any, weight: Any, bias: Any, activation: str, dropped: bool) -> None:
    """Check x (I, B), weight (I, O), bias (O,); ``dropped``: elements of y are dropped."""
    shape("dense", "x", x, (None, None))
    shape("dense", "weight", weight, (x.shape[0], None))
    shape("dense", "bias", bias, (weight.shape[1],))
    dense_activation(activation, weight.shape[1])
    if dropped and activation == "linear":
        raise InputError("dense: drop is given, expected None: what a linear layer drops leaves no trace in y")


def dense_backward(activation: str, gradient: Any, **arrays: Any) -> None:
    """Check the gradient of y and what else a backward pass reads: ``x``, ``weight``, ``y``, ``code``."""
    dense_activation(activation, 0)
    shape("dense", "gradient", gradient, (None, None))
    outputs = gradient.shape[0] * (2 if activation == "maxout" else 1)
    inputs = None
    if "x" in arrays:
        shape("dense", "x", arrays["x"], (None, gradient.shape[1]))
        inputs = arrays["x"].shape[0]
    for name, array in arrays.items():
        if name != "x":
            shape("dense", name, array, (inputs, outputs) if name == "weight" else gradient.shape)


def dense_activation(activation: str, outputs: int) -> None:
    """Refuse an unknown activation, and an odd number of outputs for maxout."""
    if activation not in ACTIVATIONS:
        raise InputError(f"dense: activation is {activation!r}, expected linear, relu or maxout")
    if activation == "maxout" and outputs % 2:
        raise InputError(f"dense: weight has {outputs} columns, expected an even number for maxout (two pieces a unit)")


def constraints_forward(z: Any, answers: int) -> None:
    """Check z (A, B) for a tree of A answers."""
    shape("constraints", "z", z, (answers, None))


def constraints_backward(answers: int, gradient: Any, **arrays: Any) -> None:
    """Check the gradient (A, B), and arrays of its shape."""
    shape("constraints", "gradient", gradient, (answers, None))
    for name, array in arrays.items():
        shape("constraints", name, array, gradient.shape)


def clip_backward(gradient: Any, z: Any) -> None:
    """Check z, of the gradient's shape."""
    shape("constraints", "z", z, gradient.shape)


def maxout_forward(x: Any) -> None:
    """Check x (2U, B)."""
    shape("maxout", "x", x, (None, None))
    if x.shape[0] % 2:
        raise InputError(f"maxout: x has {x.shape[0]} rows, expected an even number (two pieces a unit)")


def maxout_backward(gradient: Any, code: Any) -> None:
    """Check gradient and code (U, B)."""
    shape("maxout", "gradient", gradient, (None, None))
    shape("maxout", "code", code, gradient.shape)


def maxpool2d_forward(x: Any) -> None:
    """Check x (C, H, W, N)."""
    shape("maxpool2d", "x", x, (None, None, None, None))


def maxpool2d_backward(gradient: Any, code: Any, H: int, W: int) -> None:
    """Check gradient and code (C, ⌈H/2⌉, ⌈W/2⌉, N)."""
    shape("maxpool2d", "gradient", gradient, (None, pool_extent(H), pool_extent(W), None))
    shape("maxpool2d", "code", code, gradient.shape)


def mse_forward(p: Any, targets: Any) -> None:
    """Check targets, of the shape of p."""
    shape("mse", "targets", targets, p.shape)


def mse_backward(gradient: Any, p: Any, targets: Any) -> None:
    """Check the gradient of the scalar, and targets of the shape of p."""
    shape("mse", "gradient", gradient, ())
    shape("mse", "targets", targets, p.shape)


def relu_backward(gradient: Any, y: Any) -> None:
    """Check y, of the gradient's shape."""
    shape("relu", "y", y, gradient.shape)


def viewpoints_forward(crops: Any, extent: int) -> None:
    """Check crops (B, 2, T, T, 3), and 1 ≤ extent ≤ T."""
    side = crops.shape[2] if crops.ndim == 5 else None
    shape("viewpoints", "crops", crops, (None, 2, side, side, 3))
    viewpoints_extent("viewpoints", extent, crops.shape[2])


def viewpoints_backward(gradient: Any, target: int) -> None:
    """Check the gradient (3, S, S, 16·B), S at most ``target``."""
    side = gradient.shape[1] if gradient.ndim == 4 else None
    shape("viewpoints", "gradient", gradient, (3, side, side, None))
    if gradient.shape[3] % VIEWS:
        raise InputError(
            f"viewpoints: gradient has {gradient.shape[3]} patches, expected a multiple of {VIEWS}, the views of an "
            "image"
        )
    viewpoints_extent("viewpoints", gradient.shape[1], target)


def viewpoints_extent(op: str, extent: int, target: int) -> None:
    """Refuse a patch that is no part of a crop of ``target`` pixels a side."""
    if not (isinstance(extent, int | np.integer) and 1 <= extent <= target):
        raise InputError(f"{op}: extent is {extent}, expected 1 to {target}, the side of a crop")


def nan_guard_check(step: Any, first_bad: Any) -> None:
    """Check the step's number, and first_bad (1,), which is written."""
    number("nan_guard", "step", step, np.int64)
    shape("nan_guard", "first_bad", first_bad, (1,))
    writable("nan_guard", first_bad=first_bad)


def nesterov_update(weight: Any, velocity: Any, gradient: Any, rate: Any, first_bad: Any) -> None:
    """Check arrays of one shape, of which weight and velocity are written, the rate, and first_bad (1,)."""
    number("nesterov", "rate", rate, weight.dtype)
    shape("nesterov", "velocity", velocity, weight.shape)
    shape("nesterov", "gradient", gradient, weight.shape)
    shape("nesterov", "first_bad", first_bad, (1,))
    writable("nesterov", weight=weight, velocity=velocity)


def step_counter_advance(loss: Any, total: Any, step: Any) -> None:
    """Check loss (), total (1,) and step (1,), of which the last two are written."""
    shape("step_counter", "loss", loss, ())
    shape("step_counter", "total", total, (1,))
    shape("step_counter", "step", step, (1,))
    writable("step_counter", total=total, step=step)
