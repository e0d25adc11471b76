"""The gradient of the weights by kernels that take every filter; ``kernels/conv2d/backward_weights.cu``."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...core.shapes import Conv2dSizes
from ...runtime.arrays import require_size
from ...runtime.backend import Backend
from ...runtime.kernel import LONGEST_CHAIN, Geometry, ceil_div, elementwise, kernel
from .algorithm import Ladder, Problem, version_that_fits
from .epilogue import EPILOGUES, extents_of

SUM = kernel("conv2d/backward_weights", "sum")

_ROWS, _FILTERS, _IMAGES, _THREADS = 128, 32, 32, 128  # of a block
_BLOCKS = 512  # keep any GPU busy


def _run(backend: Backend, version: str, problem: Problem, x: Any, gradient: Any, saved: Any) -> Any:
    sizes, epilogue = problem.sizes, problem.epilogue
    count, steps = parts(sizes)
    shape = (count, *sizes.weight)
    require_size("conv2d", "the partial sums of dweight", shape)
    partial = backend.empty(shape)
    read = x, gradient, saved
    LADDER.versions[version](
        backend, geometry(sizes, version), *read, partial, *extents_of(sizes), EPILOGUES[epilogue], np.uint32(steps)
    )
    return sum_parts(backend, partial)


def sum_parts(backend: Backend, partial: Any) -> Any:
    """The sum over the first axis, in order."""
    shape = partial.shape[1:]
    if partial.shape[0] == 1:
        return partial.reshape(shape)
    dweight = backend.empty(shape)
    size = dweight.size
    SUM(backend, elementwise(size), partial, dweight, np.uint32(partial.shape[0]), np.uint32(size))
    return dweight


def _choose(sizes: Conv2dSizes, version: str | None) -> str:
    """The version that is asked for; None: the fastest that fits the sizes."""
    fits = {"naive": True, "tiled": True, "vectorised": sizes.N % 4 == 0}
    return version_that_fits(version, fits, "vectorised takes a multiple of 4 images")


def parts(sizes: Conv2dSizes) -> tuple[int, int]:
    """The number of parts that the sum over positions and images is cut into, and of steps of 32 images in each."""
    steps = sizes.P * sizes.Q * ceil_div(sizes.N, _IMAGES)
    count = max(ceil_div(steps * _IMAGES, LONGEST_CHAIN), _BLOCKS // max(_weight_blocks(sizes), 1), 1)
    each = max(ceil_div(steps, count), 1)
    return max(ceil_div(steps, each), 1), each


def geometry(sizes: Conv2dSizes, version: str) -> Geometry:
    """The launch that makes the parts."""
    count, _ = parts(sizes)
    if version == "naive":
        flat = elementwise(sizes.C * sizes.R * sizes.S * sizes.K)
        return Geometry((*flat.grid, count), flat.block)
    return Geometry((_weight_blocks(sizes) * count,), (_THREADS,))


def _weight_blocks(sizes: Conv2dSizes) -> int:
    return ceil_div(sizes.C * sizes.R * sizes.S, _ROWS) * ceil_div(sizes.K, _FILTERS)


LADDER = Ladder(
    versions={
        "naive": kernel("conv2d/backward_weights", "naive"),
        "tiled": kernel("conv2d/backward_weights", "tiled"),
        "vectorised": kernel("conv2d/backward_weights", "vectorised"),
    },
    choose=_choose,
    run=_run,
)
