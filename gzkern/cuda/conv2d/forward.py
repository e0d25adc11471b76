"""The forward pass by kernels that take every filter; ``kernels/conv2d/forward.cu``."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...core.shapes import Conv2dSizes, pool_extent
from ...runtime.arrays import require_size
from ...runtime.kernel import Geometry, elementwise, kernel
from . import tile as conv2d_tile
from .epilogue import EPILOGUES, LONGEST_CHAIN, arguments, chosen, require_inputs

VERSIONS = {
    "naive": kernel("conv2d/forward", "naive"),
    "long": kernel("conv2d/forward", "long"),
    "tiled": kernel("conv2d/forward", "tiled"),
    "vectorised": kernel("conv2d/forward", "vectorised"),
}
"""From slow to fast."""


def convolve(x: Any, weight: Any, bias: Any, epilogue: str, version: str | None = None) -> tuple[Any, Any]:
    """y and its code, None unless the form is "pool"; by one version, None takes the fastest that fits the sizes."""
    backend, sizes = require_inputs(x, weight, bias, epilogue)
    version = choose_version(sizes, version)
    shape = sizes.y(epilogue)
    require_size("conv2d", "y", shape)
    y = backend.empty(shape)
    code = backend.empty(shape if epilogue == "pool" else (0,), np.uint8)
    launch, stage = geometry(sizes, version)
    VERSIONS[version](backend, launch, x, weight, bias, y, code, *arguments(sizes), EPILOGUES[epilogue], *stage)
    return y, code if epilogue == "pool" else None


def choose_version(sizes: Conv2dSizes, version: str | None = None) -> str:
    """The version that is asked for; None: the fastest that fits the sizes."""
    staged = 2 * conv2d_tile.stage_bytes(sizes) <= conv2d_tile.MOST_SHARED
    short = sizes.C * sizes.R * sizes.S <= LONGEST_CHAIN
    aligned = sizes.N % 4 == sizes.K % 4 == 0
    fits = {"naive": True, "long": staged, "tiled": staged and short, "vectorised": staged and short and aligned}
    return chosen(
        version,
        fits,
        f"vectorised takes multiples of 4 images and filters, tiled sums of {LONGEST_CHAIN} terms, long filters that "
        "fit in shared memory",
    )


def geometry(sizes: Conv2dSizes, version: str) -> tuple[Geometry, tuple[np.uint32, ...]]:
    """The launch, and the channels of a stage where the version has stages."""
    windows = pool_extent(sizes.P), pool_extent(sizes.Q)
    if version == "naive":
        return elementwise(sizes.K * windows[0] * windows[1] * sizes.N), ()
    channels = conv2d_tile.stage_channels(sizes, sizes.C, stages=2)
    return conv2d_tile.tiles(sizes, windows, sizes.K, 2 * channels), (np.uint32(channels),)
