"""Mean squared error over batch × answers; ``kernels/mse.cu``."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..core import arguments
from ..runtime.arrays import backend_of
from ..runtime.kernel import Geometry, elementwise, kernel

FORWARD = kernel("mse", "forward")
BACKWARD = kernel("mse", "backward")

_ONE_BLOCK = Geometry((1,), (256,))


def forward(p: Any, targets: Any) -> Any:
    """The mean of (p − targets)², both (A, B) float32, as an array of shape (); NaN where there is nothing."""
    backend = backend_of("mse", p=p, targets=targets)
    arguments.mse_forward(p, targets)
    loss = backend.empty(())
    FORWARD(backend, _ONE_BLOCK, p, targets, loss, np.uint32(p.size))
    return loss


def backward(gradient: Any, p: Any, targets: Any) -> Any:
    """dp (A, B) from the gradient of the scalar, an array of shape ()."""
    backend = backend_of("mse", gradient=gradient, p=p, targets=targets)
    arguments.mse_backward(gradient, p, targets)
    dp = backend.empty(p.shape)
    two_over_n = np.float32(2 / max(p.size, 1))
    BACKWARD(backend, elementwise(p.size), gradient, p, targets, dp, np.uint32(p.size), two_over_n)
    return dp
