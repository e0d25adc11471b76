"""The gradient of the untied biases; ``kernels/conv2d_backward_bias.cu``."""

from __future__ import annotations

from typing import Any

from ..shapes import Conv2dSizes
from .conv2d_common import FORMS, placed, require_gradient
from .launch import Geometry, Kernel, ceil_div, choose, elementwise, extents

VERSIONS = {
    "naive": Kernel("conv2d_backward_bias", "conv2d_backward_bias_naive"),
    "warp": Kernel("conv2d_backward_bias", "conv2d_backward_bias_warp"),
}
"""From slow to fast."""

_THREADS = 128


def backward_bias(gradient: Any, kept: Any, form: str, sizes: Conv2dSizes, version: str = "warp") -> Any:
    """dbias (K, P, Q) from the gradient of y and what its form keeps."""
    backend = require_gradient(sizes, form, gradient, kept)
    kernel = choose("conv2d", VERSIONS, version)
    K, P, Q, N = sizes.K, sizes.P, sizes.Q, sizes.N
    dbias = backend.empty((K, P, Q))
    warps = _THREADS // 32
    geometry = elementwise(dbias.size) if version == "naive" else Geometry((ceil_div(dbias.size, warps),), (_THREADS,))
    kernel(backend, geometry, gradient, placed(kept, gradient), dbias, *extents(N, K, P, Q), FORMS[form])
    return dbias
