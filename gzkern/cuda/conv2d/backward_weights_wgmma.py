"""The gradient of the weights by warpgroup products of tensor cores; ``kernels/conv2d/backward_weights_wgmma.cu``."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Any

from ...core.shapes import Conv2dSizes, pool_extent
from ...runtime.arrays import require_size
from ...runtime.backend import Backend, Limits
from ...runtime.kernel import LONGEST_CHAIN, Geometry, Kernel, ceil_div, extents, kernel, padded
from .algorithm import Algorithm, Problem
from .backward_weights import sum_parts
from .epilogue import EPILOGUES

_POOL = int(EPILOGUES["pool"])
_RELU = int(EPILOGUES["relu"])
_IMAGES = 8
_MOST_SUMS = 200  # of a thread
_MANY_SUMS = 160  # leave registers for one row of dz alone
_WARPGROUPS = 2  # while one loads, the other multiplies
_LEAST_STEPS = 16
_LEVEL2 = 24  # bytes a cycle and multiprocessor


@dataclass(frozen=True)
class Tile:
    """Template arguments: filter, columns of x, epilogue; of a block 64s of filters, channels, splits, stages."""

    R: int
    S: int
    columns: int
    epilogue: int
    filter_groups: int
    channels: int
    channel_groups: int
    splits: int
    stages: int

    @property
    def threads(self) -> int:
        """Threads of a block."""
        return 128 * self.filter_groups * self.channel_groups * self.splits

    @property
    def block_filters(self) -> int:
        """Filters of a block."""
        return 64 * self.filter_groups

    @property
    def block_channels(self) -> int:
        """Channels of a block."""
        return self.channels * self.channel_groups

    @property
    def stage_bytes(self) -> int:
        """Shared memory of a stage: inputs, gradient and what is saved."""
        Q = self.columns - self.S + 1
        line = pool_extent(Q) if self.epilogue == _POOL else Q
        row = (1 if self.epilogue == _POOL else 2) * line * _IMAGES
        gradient = 4 * self.block_filters * padded(row, 4, 32)
        codes = self.block_filters * padded(line * _IMAGES, 8, 16)
        saved = codes if self.epilogue == _POOL else gradient if self.epilogue == _RELU else 0
        return 4 * (self.R + 1) * self.columns * self.block_channels * _IMAGES + gradient + saved

    @property
    def step_products(self) -> int:
        """Cycles of the tensor cores that the products of a step take, with sums of two rows of dz."""
        positions = 2 * (self.columns - self.S + 1)
        return positions * self.R * self.S * self.block_filters * self.block_channels * _IMAGES // 1024

    def grid(self, sizes: Conv2dSizes, parts: int) -> tuple[int, int, int]:
        """Blocks of channels, filters and parts."""
        return sizes.C // self.block_channels, sizes.K // self.block_filters, parts


def tiles(sizes: Conv2dSizes, epilogue: str, limits: Limits, precision: str) -> list[Tile]:
    """All tiles that fit, from the least estimated time on."""
    candidates = (
        Tile(sizes.R, sizes.S, sizes.W, int(EPILOGUES[epilogue]), filters, width, channels, splits, stages)
        for filters, width, channels, splits, stages in product((2, 1), (32, 16), (2, 1), (2, 1), (3, 2, 1))
    )
    return sorted((tile for tile in candidates if _takes(tile, sizes, epilogue, limits, precision)), key=_cost)


def _run(backend: Backend, kernel: Kernel, tile: Tile, problem: Problem, x: Any, gradient: Any, saved: Any) -> Any:
    sizes = problem.sizes
    parts, steps = split(sizes, tile, backend.limits)
    shape = (parts * tile.splits, *sizes.weight)
    require_size("conv2d", "the partial sums of dweight", shape)
    partial = backend.empty(shape)
    geometry = Geometry(tile.grid(sizes, parts), (tile.threads,), tile.stages * tile.stage_bytes)
    scalars = extents(sizes.C, sizes.H, sizes.N, sizes.K, steps, LONGEST_CHAIN // _step_terms(tile))
    kernel(backend, geometry, x, gradient, saved, partial, *scalars)
    return sum_parts(backend, partial)


def _pays(tile: Tile, sizes: Conv2dSizes, epilogue: str, limits: Limits, precision: str) -> bool:
    """Tell whether the products of a part take long beside writing and adding up its sums."""
    return split(sizes, tile, limits)[1] >= _LEAST_STEPS


def split(sizes: Conv2dSizes, tile: Tile, limits: Limits) -> tuple[int, int]:
    """The number of parts of the sum, so that each multiprocessor has a block, and of steps in each."""
    steps = pool_extent(sizes.P) * (sizes.N // _IMAGES)
    channels, filters, _ = tile.grid(sizes, 1)
    each = ceil_div(steps, max(limits.multiprocessors // (channels * filters), 1))
    return ceil_div(steps, each), each


def _takes(tile: Tile, sizes: Conv2dSizes, epilogue: str, limits: Limits, precision: str) -> bool:
    sums = tile.R * tile.S * tile.channels // 2
    return (
        limits.capability == 90
        and (tile.R, tile.S, tile.columns, tile.epilogue) == (sizes.R, sizes.S, sizes.W, EPILOGUES[epilogue])
        and min(sizes.C, sizes.K, sizes.N) > 0
        and sizes.C % tile.block_channels == sizes.K % tile.block_filters == sizes.N % _IMAGES == 0
        and tile.threads == 128 * _WARPGROUPS
        and tile.stages * tile.stage_bytes <= limits.shared_bytes
        and sums <= (_MOST_SUMS if tile.splits == 2 else _MANY_SUMS)
        and _step_terms(tile) <= LONGEST_CHAIN
    )


def _step_terms(tile: Tile) -> int:
    """Terms of a sum of a warpgroup."""
    return 2 // tile.splits * (tile.columns - tile.S + 1) * _IMAGES


def _cost(tile: Tile) -> float:
    """Cycles a product: of the tensor cores, which a narrow product fills as a wide one, or of the copies to them."""
    copies = tile.stage_bytes / _LEVEL2
    cycles = max(tile.step_products, copies) if tile.stages > 1 else tile.step_products + copies
    return cycles / tile.step_products


ALGORITHM = Algorithm(
    name="wgmma",
    kernels={"tf32": kernel("conv2d/backward_weights_wgmma")},
    needs=(
        "compute capability 9.0, multiples of 8 images, 16 channels and 64 filters, filters whose sums fit in "
        "registers, and rows that fit in shared memory"
    ),
    tiles=tiles,
    takes=_takes,
    run=_run,
    pays=_pays,
)
