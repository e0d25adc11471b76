"""The forward pass by a kernel compiled for the sizes of a layer; ``kernels/conv2d/forward_specialised.cu``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from math import prod
from typing import Any

import numpy as np

from ...core.shapes import Conv2dSizes
from ...runtime.backend import Backend, Limits
from ...runtime.kernel import LONGEST_CHAIN, MOST_BLOCKS, Geometry, Kernel, ceil_div, extents, kernel
from .algorithm import Algorithm, Problem
from .epilogue import EPILOGUES

WINDOWS = {"plain": ((8, 1, 3), (4, 2, 2)), "relu": ((8, 1, 3), (4, 2, 2)), "pool": ((8, 2, 2), (4, 2, 2))}
"""By epilogue, what a thread may compute for 4 images: filters, rows and columns of positions."""

_WARPS = {64: 16, 96: 12, 128: 8}  # by sums a thread: warps of a multiprocessor whose registers hold them
_MOST_COLUMNS = 16  # of a filter: a row of it is unrolled

_BYTES_A_CYCLE = 24  # from level-2 cache to a multiprocessor
_RESERVED = 1024  # bytes of shared memory that the system takes of a block


@dataclass(frozen=True)
class Tile:
    """The template arguments of the kernel, in their order."""

    R: int
    S: int
    epilogue: int
    filters: int
    rows: int
    columns: int
    block_filters: int
    block_images: int
    window_rows: int
    window_columns: int
    splits: int
    channels: int
    stages: int
    blocks: int

    @property
    def sums(self) -> int:
        """Sums of a thread."""
        return 4 * self.filters * self.rows * self.columns

    @property
    def group(self) -> int:
        """Threads of a split."""
        windows = self.window_rows * self.window_columns
        return self.block_images // 4 * (self.block_filters // self.filters) * windows

    @property
    def threads(self) -> int:
        """Threads of a block."""
        return self.group * self.splits

    @property
    def positions(self) -> int:
        """Positions of the patch of the image that a block reads."""
        return (self.window_rows * self.rows + self.R - 1) * (self.window_columns * self.columns + self.S - 1)

    @property
    def channel_bytes(self) -> int:
        """Shared memory for one channel: its patch and its weights."""
        return 4 * (self.positions * self.block_images + self.R * self.S * self.block_filters)

    @property
    def shared(self) -> int:
        """Bytes of shared memory of a block: its stages, later its partial sums."""
        partial = 4 * self.sums * self.threads if self.splits > 1 else 0
        return max(self.stages * self.channels * self.channel_bytes, partial)

    def grid(self, sizes: Conv2dSizes) -> tuple[int, int, int]:
        """Blocks along x, y, z."""
        filters = ceil_div(sizes.K, self.block_filters)
        across = ceil_div(sizes.Q, self.window_columns * self.columns)
        down = ceil_div(sizes.P, self.window_rows * self.rows)
        return filters * across, down, ceil_div(sizes.N, self.block_images)


def _run(
    backend: Backend, kernel: Kernel, tile: Tile, problem: Problem, x: Any, weight: Any, bias: Any
) -> tuple[Any, Any]:
    sizes, epilogue = problem.sizes, problem.epilogue
    shape = sizes.y(epilogue)
    y = backend.empty(shape)
    code = backend.empty(shape if epilogue == "pool" else (0,), np.uint8)
    geometry = Geometry(tile.grid(sizes), (tile.threads,), tile.shared)
    arguments = extents(sizes.C, sizes.H, sizes.W, sizes.N, sizes.K)
    kernel(backend, geometry, x, weight, bias, y, code, *arguments)
    return y, code if epilogue == "pool" else None


def tiles(sizes: Conv2dSizes, epilogue: str, limits: Limits, precision: str) -> list[Tile]:
    """All tiles that fit, from the least estimated time on."""
    fitting = (
        each for each in _candidates(sizes, epilogue, limits) if _takes(each, sizes, epilogue, limits, precision)
    )
    return sorted(fitting, key=lambda each: _cycles(each, sizes, limits))


def _candidates(sizes: Conv2dSizes, epilogue: str, limits: Limits) -> Iterator[Tile]:
    """Tiles whose blocks give each quarter of a multiprocessor as many warps, and fit on it."""
    layer = sizes.R, sizes.S, int(EPILOGUES[epilogue])
    blocks_of = product((16, 32, 64), (32, 16), (1, 2, 3, 4, 6), (1, 2, 4), (1, 2, 4, 8))
    for window, (filters, images, rows, columns, splits) in product(WINDOWS[epilogue], blocks_of):
        for channels, stages in product((2 * splits, splits), (3, 2)):
            one = Tile(*layer, *window, filters, images, rows, columns, splits, channels, stages, 1)
            if one.threads % 128 or one.filters % splits or sizes.C % channels:
                continue
            shared = one.shared + 4 * one.positions + _RESERVED  # with the table of positions
            blocks = min(32 * _WARPS[one.sums] // one.threads, (limits.shared_bytes + _RESERVED) // shared)
            if blocks:
                yield replace(one, blocks=blocks)


def _takes(tile: Tile, sizes: Conv2dSizes, epilogue: str, limits: Limits, precision: str) -> bool:
    if (tile.R, tile.S, tile.epilogue) != (sizes.R, sizes.S, EPILOGUES[epilogue]) or sizes.S > _MOST_COLUMNS:
        return False
    _, down, images = tile.grid(sizes)
    terms = sizes.C // tile.splits * sizes.R * sizes.S
    whole = sizes.N % 4 == sizes.K % 4 == sizes.C % tile.channels == 0
    return whole and terms <= LONGEST_CHAIN and max(down, images) <= MOST_BLOCKS[1]


def _cycles(tile: Tile, sizes: Conv2dSizes, limits: Limits) -> float:
    """An estimate of the time, in cycles of a multiprocessor that issues an instruction to each of its quarters in one.

    Counted are a thread's multiply-adds, its loads from shared memory (twice, for all share one pipe, and a little more
    where a warp reads two windows), about five instructions for a copy, and those of begin and end. A guess is what
    latencies add, at the begin, at each stage and in all, more where fewer blocks or warps are there to hide them; and
    that a quarter of the copies' time is not hidden.
    """
    copies = tile.channel_bytes / 16 / tile.group
    loads = tile.R * tile.S * tile.filters / 4
    loads += tile.R * tile.rows * (tile.S + tile.columns - 1) * (1 if tile.block_images == 32 else 1.25)
    channel = tile.R * tile.S * tile.sums + 2 * loads + 5 * copies
    finish = tile.sums * (10 if tile.splits == 1 else 3 + 10 / tile.splits)
    stages = sizes.C // tile.channels
    instructions = sizes.C // tile.splits * channel + 40 * stages + 400 + finish
    blocks = ceil_div(prod(tile.grid(sizes)), limits.multiprocessors)
    waves, rest = divmod(blocks, tile.blocks)

    def wave(blocks: int) -> float:
        return instructions * (blocks * tile.threads / 128 + 0.2) + (2000 + 100 * stages) / blocks if blocks else 0

    return waves * wave(tile.blocks) + wave(rest) + blocks * sizes.C * tile.channel_bytes / _BYTES_A_CYCLE / 4


ALGORITHM = Algorithm(
    name="specialised",
    kernels={"fp32": kernel("conv2d/forward_specialised")},
    needs=(
        f"multiples of 4 images and filters, sums of {LONGEST_CHAIN} terms and filters of at most "
        f"{_MOST_COLUMNS} columns that fit in shared memory"
    ),
    tiles=tiles,
    takes=_takes,
    run=_run,
)
