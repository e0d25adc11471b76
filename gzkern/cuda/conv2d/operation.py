"""Valid convolution (stride 1) with untied biases, ReLU and 2×2 max-pool on C,H,W,N arrays; ``kernels/conv2d/``.

Arrays are float32, codes uint8. The operation is :func:`forward` and :func:`backward`; beside them stands one function
a pass, by a version that may be chosen: for benchmarks and tests. Arguments are checked here, and nowhere below.

The epilogue of a convolution is "plain", "relu" or "pool"; ``saved`` is the result of the forward pass that the
backward passes read: y by "relu", the code by "pool", None by "plain".
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ...core import arguments
from ...core.shapes import Conv2dSizes
from ...runtime.arrays import backend_of, require_size
from ...runtime.backend import Backend
from . import backward_bias as bias_kernels
from .algorithm import Problem
from .choice import ALGORITHMS, LADDERS, Choice, choose, choose_by_tile


def forward(
    x: Any, weight: Any, bias: Any, *, activate: bool = True, pool: bool = True, precision: str = "fp32"
) -> tuple[Any, Any]:
    """Convolution + bias (+ ReLU (+ 2×2 max-pool)).

    Args:
        x: (C, H, W, N).
        weight: (C, R, S, K).
        bias: (K, P, Q), P = H−R+1, Q = W−S+1.
        activate: apply ReLU.
        pool: max-pool after it; needs ``activate``.
        precision: one of ``choice.PRECISIONS``; by "bf16" x, weight and y are uint16, the bits of bfloat16.

    Returns:
        y (K, P, Q, N) and None, or pooled y (K, ⌈P/2⌉, ⌈Q/2⌉, N) and its uint8 code.

    Raises:
        InputError: arrays that do not fit each other or the kernels.
    """
    return convolve(x, weight, bias, arguments.conv2d_epilogue_of(activate, pool), precision=precision)


def backward(
    x: Any,
    weight: Any,
    y: Any,
    code: Any,
    gradient: Any,
    *,
    activate: bool = True,
    data: bool = True,
    precision: str = "fp32",
) -> tuple[Any, Any, Any]:
    """Gradients of :func:`forward`, from its inputs, its results and the gradient of y.

    Returns:
        dx (C, H, W, N), or None where ``data`` is false; dweight (C, R, S, K); dbias (K, P, Q).

    Raises:
        InputError: arrays that do not fit each other or the kernels.
    """
    epilogue = arguments.conv2d_epilogue_of(activate, code is not None)
    arrays = {"x": x, "weight": weight, "gradient": gradient, **arguments.saved(epilogue, y, code)}
    backend = backend_of("conv2d", {"code": np.uint8}, **arrays)
    sizes = arguments.conv2d_sizes(x, weight)
    arguments.conv2d_backward(sizes, epilogue, **{name: arrays[name] for name in arrays if name not in ("x", "weight")})
    saved = arrays.get("code", arrays.get("y", gradient))  # a kernel takes a pointer that it does not read
    how = sizes, epilogue, backend.limits, precision
    of_weights, of_data = choose("backward_weights", *how), choose("backward_data", *how) if data else None
    dweight = _run("backward_weights", of_weights, backend, sizes, epilogue, x, gradient, saved)
    dbias = bias_kernels.run(backend, None, sizes, epilogue, gradient, saved)
    if of_data is None:
        return None, dweight, dbias
    return _run("backward_data", of_data, backend, sizes, epilogue, weight, gradient, saved), dweight, dbias


def convolve(
    x: Any,
    weight: Any,
    bias: Any,
    epilogue: str,
    version: str | None = None,
    precision: str = "fp32",
    tile: Any = None,
) -> tuple[Any, Any]:
    """:func:`forward` with one epilogue, by one version; None takes the one that ``choice.choose`` finds.

    By bf16, which is for prediction, there is no code. ``tile``: of an algorithm that ``version`` names.
    """
    dtype = np.uint16 if precision == "bf16" else np.float32
    backend = backend_of("conv2d", {"x": dtype, "weight": dtype}, x=x, weight=weight, bias=bias)
    sizes = arguments.conv2d_forward(x, weight, bias)
    arguments.conv2d_epilogue(epilogue)
    choice = _choice("forward", sizes, epilogue, backend, precision, version, tile)
    require_size("conv2d", "y", sizes.y(epilogue))
    return _run("forward", choice, backend, sizes, epilogue, x, weight, bias)


def backward_data(
    weight: Any,
    gradient: Any,
    saved: Any,
    epilogue: str,
    sizes: Conv2dSizes,
    version: str | None = None,
    precision: str = "fp32",
    tile: Any = None,
) -> Any:
    """dx (C, H, W, N) from weight (C, R, S, K), the gradient of y and what is saved."""
    backend = _checked(sizes, epilogue, gradient, saved, weight=weight)
    choice = _choice("backward_data", sizes, epilogue, backend, precision, version, tile)
    require_size("conv2d", "dx", sizes.x)
    return _run("backward_data", choice, backend, sizes, epilogue, weight, gradient, _pointer(saved, gradient))


def backward_weights(
    x: Any,
    gradient: Any,
    saved: Any,
    epilogue: str,
    sizes: Conv2dSizes,
    version: str | None = None,
    precision: str = "fp32",
    tile: Any = None,
) -> Any:
    """dweight (C, R, S, K) from x (C, H, W, N), the gradient of y and what is saved."""
    backend = _checked(sizes, epilogue, gradient, saved, x=x)
    choice = _choice("backward_weights", sizes, epilogue, backend, precision, version, tile)
    return _run("backward_weights", choice, backend, sizes, epilogue, x, gradient, _pointer(saved, gradient))


def backward_bias(gradient: Any, saved: Any, epilogue: str, sizes: Conv2dSizes, version: str | None = None) -> Any:
    """dbias (K, P, Q) from the gradient of y and what is saved; ``version`` None: the fastest that fits."""
    backend = _checked(sizes, epilogue, gradient, saved)
    return bias_kernels.run(backend, version, sizes, epilogue, gradient, _pointer(saved, gradient))


def _pointer(saved: Any, gradient: Any) -> Any:
    """``saved``, or the gradient where nothing was saved: a kernel takes a pointer that it does not read."""
    return gradient if saved is None else saved


def _checked(sizes: Conv2dSizes, epilogue: str, gradient: Any, saved: Any, **inputs: Any) -> Backend:
    """Check what a pass reads; its device."""
    arguments.conv2d_epilogue(epilogue)
    arrays = {**inputs, "gradient": gradient, **arguments.saved(epilogue, saved, saved)}
    backend = backend_of("conv2d", {"code": np.uint8}, **arrays)
    arguments.conv2d_backward(sizes, epilogue, **arrays)
    return backend


def _choice(
    pass_name: str,
    sizes: Conv2dSizes,
    epilogue: str,
    backend: Backend,
    precision: str,
    version: str | None,
    tile: Any,
) -> Choice:
    if tile is None:
        return choose(pass_name, sizes, epilogue, backend.limits, precision, version)
    return choose_by_tile(pass_name, sizes, epilogue, backend.limits, precision, version, tile)


def _run(pass_name: str, choice: Choice, backend: Backend, sizes: Conv2dSizes, epilogue: str, *arrays: Any) -> Any:
    problem = Problem(sizes, epilogue, choice.precision)
    if choice.tile is None:
        return LADDERS[pass_name].run(backend, choice.version, problem, *arrays)
    algorithm = ALGORITHMS[pass_name][choice.version]
    kernel = algorithm.kernels[choice.precision].of(choice.tile)
    return algorithm.run(backend, kernel, choice.tile, problem, *arrays)
