"""Valid convolution (cross-correlation, stride 1) with untied biases on C,H,W,N arrays (paper, network architecture).

y[k, p, q, n] = Σ_{c,r,s} weight[c, r, s, k] · x[c, p+r, q+s, n] + bias[k, p, q], then optionally ReLU, and after
ReLU optionally a 2×2 max-pool that keeps one code byte a value: the mask of the positions (bit 2·row + column)
that equal the maximum and are > 0. Ties share the gradient in full, as in cuda-convnet. NaN passes through.
"""

from __future__ import annotations

import numpy as np

from ..core import arguments
from ..core.shapes import conv_extent
from . import maxpool2d, relu
from .workspace import scratch


def forward(
    x: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray,
    *,
    activate: bool = True,
    pool: bool = True,
    precision: str = "fp32",
) -> tuple[np.ndarray, np.ndarray | None]:
    """Convolution + bias (+ ReLU (+ 2×2 max-pool)).

    Args:
        x: (C, H, W, N).
        weight: (C, R, S, K).
        bias: (K, P, Q), P = H−R+1, Q = W−S+1.
        activate: apply ReLU.
        pool: max-pool after it; needs ``activate``.
        precision: "fp32".

    Returns:
        y (K, P, Q, N) and None, or pooled y (K, ⌈P/2⌉, ⌈Q/2⌉, N) and its uint8 code.
    """
    epilogue = arguments.conv2d_epilogue_of(activate, pool)
    arguments.only_fp32("conv2d", precision)
    arguments.host_arrays("conv2d", x=x, weight=weight, bias=bias)
    sizes = arguments.conv2d_forward(x, weight, bias)
    if x.dtype != np.float32:
        return forward_oracle(x, weight, bias, activate=activate, pool=pool)
    from .jit import conv2d as jit

    x, weight, bias = np.ascontiguousarray(x), np.ascontiguousarray(weight), np.ascontiguousarray(bias)
    y = np.empty(sizes.y(epilogue), np.float32)
    if pool:
        code = np.empty(y.shape, np.uint8)
        jit.forward_pooled(x, weight, bias, y, code)
        return y, code
    jit.forward(x, weight, bias, activate, y)
    return y, None


def backward(
    x: np.ndarray,
    weight: np.ndarray,
    y: np.ndarray,
    code: np.ndarray | None,
    gradient: np.ndarray,
    *,
    activate: bool = True,
    data: bool = True,
    precision: str = "fp32",
) -> tuple[np.ndarray | None, np.ndarray, np.ndarray]:
    """Gradients of :func:`forward`, from its inputs, its results and the gradient of y.

    Returns:
        dx (C, H, W, N), or None where ``data`` is false; dweight (C, R, S, K); dbias (K, P, Q).
    """
    arguments.only_fp32("conv2d", precision)
    epilogue = arguments.conv2d_epilogue_of(activate, code is not None)
    saved = arguments.saved(epilogue, y, code)
    arguments.host_arrays("conv2d", {"code": np.uint8}, x=x, weight=weight, gradient=gradient, **saved)
    sizes = arguments.conv2d_sizes(x, weight)
    arguments.conv2d_backward(sizes, epilogue, gradient=gradient, **saved)
    if x.dtype != np.float32:
        return backward_oracle(x, weight, y, code, gradient, activate=activate, data=data)
    from numba import get_num_threads

    from .jit import conv2d as jit

    x, gradient = np.ascontiguousarray(x), np.ascontiguousarray(gradient)
    dz = scratch(sizes.y("plain"))
    dbias = np.empty(dz.shape[:3], np.float32)
    if code is not None:
        jit.unpool(gradient, code, dz, dbias)
    elif activate:
        jit.mask_relu(gradient, y, dz, dbias)
    else:
        dz, dbias = gradient, gradient.sum(axis=3)
    dweight = np.empty(weight.shape, np.float32)
    jit.backward_weights(x, dz, dweight, get_num_threads())
    dx = None
    if data:
        dx = np.empty(x.shape, np.float32)
        jit.backward_data(dz, np.ascontiguousarray(weight.transpose(3, 1, 2, 0)), dx)
    return dx, dweight, dbias


def forward_oracle(
    x: np.ndarray, weight: np.ndarray, bias: np.ndarray, *, activate: bool = True, pool: bool = True
) -> tuple[np.ndarray, np.ndarray | None]:
    """:func:`forward` as a sum of R·S matrix products; any dtype."""
    _, R, S, _ = weight.shape
    _, P, Q = bias.shape
    y = bias[..., None].astype(x.dtype)
    for r in range(R):
        for s in range(S):
            y = y + np.tensordot(weight[:, r, s].T, x[:, r : r + P, s : s + Q], axes=1)
    if activate:
        y = relu.rectify(y)
    return maxpool2d.pooled(y) if pool else (y, None)


def backward_oracle(
    x: np.ndarray,
    weight: np.ndarray,
    y: np.ndarray,
    code: np.ndarray | None,
    gradient: np.ndarray,
    *,
    activate: bool = True,
    data: bool = True,
) -> tuple[np.ndarray | None, np.ndarray, np.ndarray]:
    """:func:`backward` as R·S matrix products a gradient; any dtype."""
    (_, H, W, _), (_, R, S, _) = x.shape, weight.shape
    P, Q = conv_extent(H, R), conv_extent(W, S)
    if code is not None:
        dz = maxpool2d.scatter(gradient, code, P, Q)
    else:
        dz = relu.gate(gradient, y) if activate else gradient
    dweight = np.empty(weight.shape, x.dtype)
    dx = np.zeros(x.shape, x.dtype) if data else None
    for r in range(R):
        for s in range(S):
            window = x[:, r : r + P, s : s + Q]
            dweight[:, r, s] = np.tensordot(window, dz, axes=((1, 2, 3), (1, 2, 3)))
            if dx is not None:
                dx[:, r : r + P, s : s + Q] += np.tensordot(weight[:, r, s], dz, axes=1)
    return dx, dweight, dz.sum(axis=3)
