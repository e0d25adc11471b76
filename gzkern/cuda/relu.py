"""Rectifier: max(x, 0), where NaN stays NaN; ``kernels/relu.cu``."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..core import arguments
from ..runtime.arrays import backend_of
from ..runtime.kernel import elementwise, kernel

FORWARD = kernel("relu", "forward")
BACKWARD = kernel("relu", "backward")


def forward(x: Any) -> Any:
    """``x < 0 ? 0 : x``, any shape."""
    backend = backend_of("relu", x=x)
    y = backend.empty(x.shape)
    FORWARD(backend, elementwise(x.size), x, y, np.uint32(x.size))
    return y


def backward(gradient: Any, y: Any) -> Any:
    """The gradient where y > 0 (or NaN), else 0: the derivative at 0 is taken as 0, as in the original."""
    backend = backend_of("relu", gradient=gradient, y=y)
    arguments.relu_backward(gradient, y)
    dx = backend.empty(y.shape)
    BACKWARD(backend, elementwise(y.size), gradient, y, dx, np.uint32(y.size))
    return dx
