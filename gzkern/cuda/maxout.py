"""Maxout with two pieces, rows 2j and 2j + 1 of its input, and its code; ``kernels/maxout.cu``."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..core import arguments
from ..runtime.arrays import backend_of, require_size
from ..runtime.kernel import elementwise, kernel

FORWARD = kernel("maxout", "forward")
BACKWARD = kernel("maxout", "backward")


def forward(x: Any) -> tuple[Any, Any]:
    """The larger pieces of x (2U, B) float32 as y (U, B), and its uint8 code; NaN passes, with code 0."""
    backend = backend_of("maxout", x=x)
    arguments.maxout_forward(x)
    rows, B = x.shape
    y, code = backend.empty((rows // 2, B)), backend.empty((rows // 2, B), np.uint8)
    FORWARD(backend, elementwise(y.size), x, y, code, np.uint32(y.size), np.uint32(B))
    return y, code


def backward(gradient: Any, code: Any) -> Any:
    """The gradient of y (U, B), by its code, as (2U, B)."""
    backend = backend_of("maxout", {"code": np.uint8}, gradient=gradient, code=code)
    arguments.maxout_backward(gradient, code)
    units, B = gradient.shape
    require_size("maxout", "the gradient of x", (2 * units, B))
    dx = backend.empty((2 * units, B))
    BACKWARD(backend, elementwise(gradient.size), gradient, code, dx, np.uint32(gradient.size), np.uint32(B))
    return dx
