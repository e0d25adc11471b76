"""The gradient of the untied biases; ``kernels/conv2d/backward_bias.cu``."""

from __future__ import annotations

from functools import cache
from typing import Any

from ...core.shapes import Conv2dSizes, pool_extent
from ...runtime.backend import Backend
from ...runtime.kernel import Geometry, ceil_div, elementwise, extents, kernel
from .algorithm import version_that_fits
from .epilogue import EPILOGUES

VERSIONS = {
    "naive": kernel("conv2d/backward_bias", "naive"),
    "warp": kernel("conv2d/backward_bias", "warp"),
    "vectorised": kernel("conv2d/backward_bias", "vectorised"),
}
"""From slow to fast."""

_THREADS = 128
_MOST_IMAGES = 2**19  # of "vectorised", whose lanes add up N / 128 of them one after the other


def run(backend: Backend, version: str | None, sizes: Conv2dSizes, epilogue: str, gradient: Any, saved: Any) -> Any:
    """dbias (K, P, Q); ``version`` None: the fastest that fits."""
    version = _choose(sizes, version)
    K, P, Q, N = sizes.K, sizes.P, sizes.Q, sizes.N
    dbias = backend.empty((K, P, Q))
    pooled = version == "vectorised" and epilogue == "pool"
    sums = K * pool_extent(P) * pool_extent(Q) if pooled else dbias.size
    warps = Geometry((ceil_div(sums, _THREADS // 32),), (_THREADS,))
    geometry = elementwise(sums) if version == "naive" else warps
    VERSIONS[version](backend, geometry, gradient, saved, dbias, *extents(N, K, P, Q), EPILOGUES[epilogue])
    return dbias


@cache
def _choose(sizes: Conv2dSizes, version: str | None) -> str:
    fits = {"naive": True, "warp": True, "vectorised": sizes.N % 4 == 0 and sizes.N <= _MOST_IMAGES}
    return version_that_fits(version, fits, "vectorised takes a multiple of 4 images, at most 2^19")
