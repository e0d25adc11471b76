"""The forward pass by kernels that take every filter; ``kernels/conv2d/forward.cu``."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...core.shapes import Conv2dSizes, pool_extent
from ...runtime.backend import Backend
from ...runtime.kernel import LONGEST_CHAIN, Geometry, elementwise, kernel
from . import tile as conv2d_tile
from .algorithm import Ladder, Problem, version_that_fits
from .epilogue import EPILOGUES, extents_of


def _run(backend: Backend, version: str, problem: Problem, x: Any, weight: Any, bias: Any) -> tuple[Any, Any]:
    sizes, epilogue = problem.sizes, problem.epilogue
    shape = sizes.y(epilogue)
    y = backend.empty(shape)
    code = backend.empty(shape if epilogue == "pool" else (0,), np.uint8)
    launch, stage = geometry(sizes, version)
    LADDER.versions[version](backend, launch, x, weight, bias, y, code, *extents_of(sizes), EPILOGUES[epilogue], *stage)
    return y, code if epilogue == "pool" else None


def _choose(sizes: Conv2dSizes, version: str | None) -> str:
    """The version that is asked for; None: the fastest that fits the sizes."""
    staged = 2 * conv2d_tile.stage_bytes(sizes) <= conv2d_tile.MOST_SHARED
    short = sizes.C * sizes.R * sizes.S <= LONGEST_CHAIN
    aligned = sizes.N % 4 == sizes.K % 4 == 0
    fits = {"naive": True, "long": staged, "tiled": staged and short, "vectorised": staged and short and aligned}
    return version_that_fits(
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


LADDER = Ladder(
    versions={
        "naive": kernel("conv2d/forward", "naive"),
        "long": kernel("conv2d/forward", "long"),
        "tiled": kernel("conv2d/forward", "tiled"),
        "vectorised": kernel("conv2d/forward", "vectorised"),
    },
    choose=_choose,
    run=_run,
)
