"""2×2 max-pool with stride 2 on C,H,W,N arrays; a window over the border counts; ``kernels/maxpool2d.cu``."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..core import arguments
from ..core.shapes import pool_extent
from ..runtime.arrays import backend_of, require_size
from ..runtime.kernel import Geometry, by_fours, choose, elementwise, extents, kernel

FORWARD = {
    "naive": kernel("maxpool2d", "forward_naive"),
    "vectorised": kernel("maxpool2d", "forward_vectorised"),
}
BACKWARD = {
    "naive": kernel("maxpool2d", "backward_naive"),
    "vectorised": kernel("maxpool2d", "backward_vectorised"),
}


def forward(x: Any) -> tuple[Any, Any]:
    """Pool (C, H, W, N) float32 to y (C, ⌈H/2⌉, ⌈W/2⌉, N) and its uint8 code; NaN passes, with code 0."""
    return pool(x)


def backward(gradient: Any, code: Any, H: int, W: int) -> Any:
    """The gradient (C, ⌈H/2⌉, ⌈W/2⌉, N) at the positions of its code, as (C, H, W, N)."""
    return pool_backward(gradient, code, H, W)


def pool(x: Any, version: str | None = None) -> tuple[Any, Any]:
    """:func:`forward` by "naive", or by "vectorised" where 4 divides N."""
    backend = backend_of("maxpool2d", x=x)
    arguments.maxpool2d_forward(x)
    C, H, W, N = x.shape
    version = by_fours("maxpool2d", version, "images", N, "naive")
    kernel = choose("maxpool2d", FORWARD, version)
    shape = (C, pool_extent(H), pool_extent(W), N)
    y, code = backend.empty(shape), backend.empty(shape, np.uint8)
    kernel(backend, _geometry(version, y.size), x, y, code, *extents(C, H, W, N))
    return y, code


def pool_backward(gradient: Any, code: Any, H: int, W: int, version: str | None = None) -> Any:
    """:func:`backward` by "naive", or by "vectorised" where 4 divides N."""
    backend = backend_of("maxpool2d", {"code": np.uint8}, gradient=gradient, code=code)
    arguments.maxpool2d_backward(gradient, code, H, W)
    C, _, _, N = gradient.shape
    version = by_fours("maxpool2d", version, "images", N, "naive")
    kernel = choose("maxpool2d", BACKWARD, version)
    require_size("maxpool2d", "the gradient of x", (C, H, W, N))
    dx = backend.empty((C, H, W, N))
    kernel(backend, _geometry(version, gradient.size), gradient, code, dx, *extents(C, H, W, N))
    return dx


def _geometry(version: str, windows: int) -> Geometry:
    return elementwise(windows if version == "naive" else windows // 4)
