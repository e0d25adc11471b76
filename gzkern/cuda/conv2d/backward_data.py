"""The gradient of x by kernels that take every filter; ``kernels/conv2d/backward_data.cu``."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...core.shapes import Conv2dSizes, pool_extent
from ...runtime.backend import Backend
from ...runtime.kernel import LONGEST_CHAIN, Geometry, elementwise, kernel
from . import tile as conv2d_tile
from .algorithm import Ladder, Problem, version_that_fits
from .epilogue import EPILOGUES, extents_of


def _run(backend: Backend, version: str, problem: Problem, weight: Any, gradient: Any, saved: Any) -> Any:
    sizes, epilogue = problem.sizes, problem.epilogue
    dx = backend.empty(sizes.x)
    launch, stage = geometry(sizes, version)
    read = weight, gradient, saved
    LADDER.versions[version](backend, launch, *read, dx, *extents_of(sizes), EPILOGUES[epilogue], *stage)
    return dx


def _choose(sizes: Conv2dSizes, version: str | None) -> str:
    """The version that is asked for; None: the fastest that fits the sizes."""
    stage = conv2d_tile.stage_bytes(sizes)
    staged, short = stage <= conv2d_tile.MOST_SHARED, sizes.K * sizes.R * sizes.S <= LONGEST_CHAIN
    aligned = sizes.N % 4 == sizes.K % 4 == 0 and 4 * stage <= conv2d_tile.MOST_SHARED
    fits = {"naive": True, "long": staged, "tiled": staged and short, "vectorised": staged and short and aligned}
    return version_that_fits(
        version,
        fits,
        f"vectorised takes multiples of 4 images and filters, tiled sums of {LONGEST_CHAIN} terms, long filters that "
        "fit in shared memory",
    )


def geometry(sizes: Conv2dSizes, version: str) -> tuple[Geometry, tuple[np.uint32, ...]]:
    """The launch, and the filters of a stage where the version has stages."""
    if version == "naive":
        return elementwise(sizes.C * sizes.H * sizes.W * sizes.N), ()
    multiple = 4 if version == "vectorised" else 1
    filters = conv2d_tile.stage_channels(sizes, sizes.K, stages=1, multiple=multiple)
    windows = pool_extent(sizes.H), pool_extent(sizes.W)
    return conv2d_tile.tiles(sizes, windows, sizes.C, filters), (np.uint32(filters),)


LADDER = Ladder(
    versions={
        "naive": kernel("conv2d/backward_data", "naive"),
        "long": kernel("conv2d/backward_data", "long"),
        "tiled": kernel("conv2d/backward_data", "tiled"),
        "vectorised": kernel("conv2d/backward_data", "vectorised"),
    },
    choose=_choose,
    run=_run,
)
