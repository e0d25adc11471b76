"""Valid convolution (stride 1) with untied biases, ReLU and 2×2 max-pool on C,H,W,N arrays; ``kernels/conv2d_*.cu``.

Arrays are float32, codes uint8. Below the two operations stands one function a pass, which chooses among the modules of
its kernels; see ``conv2d_common`` for what ``form`` and ``kept`` mean.
"""

from __future__ import annotations

from typing import Any

from ..errors import InputError
from ..shapes import Conv2dSizes
from . import conv2d_backward_data, conv2d_backward_weights, conv2d_forward
from .conv2d_backward_bias import backward_bias
from .conv2d_common import require_gradient, sizes_of
from .launch import backend_of


def forward(x: Any, weight: Any, bias: Any, *, activate: bool = True, pool: bool = True) -> tuple[Any, Any]:
    """Convolution + bias (+ ReLU (+ 2×2 max-pool)).

    Args:
        x: (C, H, W, N).
        weight: (C, R, S, K).
        bias: (K, P, Q), P = H−R+1, Q = W−S+1.
        activate: apply ReLU.
        pool: max-pool after it; needs ``activate``.

    Returns:
        y (K, P, Q, N) and None, or pooled y (K, ⌈P/2⌉, ⌈Q/2⌉, N) and its uint8 code.

    Raises:
        InputError: arrays that do not fit each other or the kernels.
    """
    if pool and not activate:
        raise InputError("conv2d: a pool without ReLU has no code byte; leave activate on, or pool apart")
    return convolve(x, weight, bias, "pool" if pool else "relu" if activate else "plain")


def backward(
    x: Any, weight: Any, y: Any, code: Any, gradient: Any, *, activate: bool = True, data: bool = True
) -> tuple[Any, Any, Any]:
    """Gradients of :func:`forward`, from its inputs, its results and the gradient of y.

    Returns:
        dx (C, H, W, N), or None where ``data`` is false; dweight (C, R, S, K); dbias (K, P, Q).

    Raises:
        InputError: arrays that do not fit each other or the kernels.
    """
    form = "pool" if code is not None else "relu" if activate else "plain"
    kept = {"pool": code, "relu": y, "plain": None}[form]
    backend_of("conv2d", x=x, weight=weight)
    sizes = sizes_of(x, weight)
    require_gradient(sizes, form, gradient, kept, x=x, weight=weight)
    dweight = backward_weights(x, gradient, kept, form, sizes)
    dbias = backward_bias(gradient, kept, form, sizes)
    return backward_data(weight, gradient, kept, form, sizes) if data else None, dweight, dbias


def convolve(
    x: Any, weight: Any, bias: Any, form: str, version: str | None = None, precision: str = "fp32"
) -> tuple[Any, Any]:
    """:func:`forward` in one form, by one version; None takes the fastest that fits the sizes."""
    _require_precision(precision)
    return conv2d_forward.convolve(x, weight, bias, form, version)


def backward_data(
    weight: Any,
    gradient: Any,
    kept: Any,
    form: str,
    sizes: Conv2dSizes,
    version: str | None = None,
    precision: str = "fp32",
) -> Any:
    """dx (C, H, W, N) from weight (C, R, S, K), the gradient of y and what its form keeps."""
    _require_precision(precision)
    return conv2d_backward_data.backward_data(weight, gradient, kept, form, sizes, version)


def backward_weights(
    x: Any,
    gradient: Any,
    kept: Any,
    form: str,
    sizes: Conv2dSizes,
    version: str | None = None,
    precision: str = "fp32",
) -> Any:
    """dweight (C, R, S, K) from x (C, H, W, N), the gradient of y and what its form keeps."""
    _require_precision(precision)
    return conv2d_backward_weights.backward_weights(x, gradient, kept, form, sizes, version)


def _require_precision(precision: str) -> None:
    if precision != "fp32":
        raise InputError(f"conv2d: precision is {precision!r}, expected fp32")
