"""The gradient of x by a kernel compiled for a layer; ``kernels/conv2d/backward_data_specialised.cu``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from heapq import heapify, heapreplace
from itertools import product
from typing import Any

from ...core.shapes import Conv2dSizes
from ...runtime.backend import Backend, Limits
from ...runtime.kernel import LONGEST_CHAIN, MOST_BLOCKS, Geometry, Kernel, ceil_div, extents, kernel, padded
from .algorithm import Algorithm, Problem
from .epilogue import EPILOGUES

_WARPS = {128: 16, 168: 12, 248: 8}  # by registers of a thread: warps of a multiprocessor
_OTHER_REGISTERS = 48  # than those of sums and weights
_MOST_COLUMNS = 16  # of a filter: a row of it is unrolled

_MOST_STATIC = 8 * 1024  # bytes of the table of cells
_RESERVED = 1024  # bytes of shared memory that the system takes of a block
_BYTES_A_CYCLE = 24  # from level-2 cache to a multiprocessor
_FEW = 8  # blocks of a multiprocessor whose order matters


@dataclass(frozen=True)
class Tile:
    """The template arguments of the kernel, in their order.

    A thread has a row of dx, ``W`` columns, for so many ``channels`` and 4 images; ``patch_rows`` are the most of dz
    that a block needs, ``filters`` those of a stage.
    """

    R: int
    S: int
    epilogue: int
    W: int
    channels: int
    block_channels: int
    block_images: int
    rows: int
    splits: int
    filters: int
    patch_rows: int
    blocks: int

    @property
    def unit(self) -> int:
        """Rows, and columns, of dz that a cell of the gradient tells of."""
        return 2 if self.epilogue == EPILOGUES["pool"] else 1

    @property
    def lanes(self) -> int:
        """Threads along images."""
        return self.block_images // 4

    @property
    def group(self) -> int:
        """Threads of a split and row."""
        return self.lanes * (self.block_channels // self.channels)

    @property
    def threads(self) -> int:
        """Threads of a block."""
        return self.group * self.splits * self.rows

    @property
    def copied_evenly(self) -> bool:
        """Tell whether a thread copies weights of one channel, and all of them as many."""
        pairs, line = self.filters * self.block_channels, min(self.filters, 8) * self.block_channels
        return pairs <= self.threads or pairs % self.threads == self.threads % line == 0

    @property
    def cell_columns(self) -> int:
        """Cells of a row of dz."""
        return ceil_div(self.W - self.S + 1, self.unit)

    @property
    def cells(self) -> int:
        """Cells of a stage."""
        return self.filters * (self.patch_rows // self.unit) * self.cell_columns

    @property
    def table(self) -> int:
        """Bytes of static shared memory."""
        return 8 * self.cells

    @property
    def shared(self) -> int:
        """Bytes of dynamic shared memory: two stages and what copies of the gradient bring; later partial sums."""
        line = self.cell_columns * self.unit * self.block_images
        patch = padded(self.patch_rows * line, self.block_images % 32, 32)
        weights = padded(self.R * self.S * self.block_channels, 32 // min(self.filters, 8) % 32, 32)
        raw = self.cells * self.block_images * _item_bytes(self.epilogue)
        partial = 16 * self.W * self.threads if self.splits > 1 else 0
        return max(8 * self.filters * (patch + weights) + raw, partial)

    def grid(self, sizes: Conv2dSizes) -> tuple[int, int]:
        """Blocks along x and y."""
        images, channels = ceil_div(sizes.N, self.block_images), ceil_div(sizes.C, self.block_channels)
        return images * channels, ceil_div(sizes.H, self.rows)


def _run(backend: Backend, kernel: Kernel, tile: Tile, problem: Problem, weight: Any, gradient: Any, saved: Any) -> Any:
    sizes = problem.sizes
    dx = backend.empty(sizes.x)
    geometry = Geometry(tile.grid(sizes), (tile.threads,), tile.shared)
    arguments = extents(sizes.C, sizes.H, sizes.N, sizes.K)
    kernel(backend, geometry, weight, gradient, saved, dx, *arguments)
    return dx


def tiles(sizes: Conv2dSizes, epilogue: str, limits: Limits, precision: str) -> list[Tile]:
    """All tiles that fit, from the least estimated time on."""
    fitting = (
        each for each in _candidates(sizes, epilogue, limits) if _takes(each, sizes, epilogue, limits, precision)
    )
    return sorted(fitting, key=lambda each: _cycles(each, sizes, limits))


def patch_rows(sizes: Conv2dSizes, epilogue: str, rows: int) -> int:
    """The most rows of dz that a block with so many rows of dx needs, whole cells."""
    unit = 2 if epilogue == "pool" else 1

    def needed(h: int) -> int:
        first, end = max(0, h - sizes.R + 1), min(sizes.P, h + rows)
        return unit * (ceil_div(end, unit) - first // unit)

    return max(needed(h) for h in range(0, sizes.H, rows))


def _candidates(sizes: Conv2dSizes, epilogue: str, limits: Limits) -> Iterator[Tile]:
    """Tiles that give each quarter of a multiprocessor as many warps, with the blocks that fit on it at once."""
    heights = {rows: patch_rows(sizes, epilogue, rows) for rows in (1, 2, 4, sizes.H)}
    some = product((1, 2, 4), (4, 8, 16), (8, 16, 32), heights, (1, 2, 4, 8), (1, 2, 4, 8))
    for channels, lanes, images, rows, splits, share in some:
        one = Tile(sizes.R, sizes.S, int(EPILOGUES[epilogue]), sizes.W, channels, channels * lanes, images, rows,
                   splits,
                   splits * share, heights[rows], 1)  # fmt: skip
        if one.threads % 128 or one.group * splits % 32 or not one.copied_evenly or one.table > _MOST_STATIC:
            continue
        registers = channels * (4 * sizes.W + sizes.S) + _OTHER_REGISTERS
        warps = next((warps for most, warps in _WARPS.items() if registers <= most), 0)
        fitting = (limits.shared_bytes + _RESERVED) // (one.shared + one.table + _RESERVED)
        blocks = min(32 * warps // one.threads, fitting)
        if blocks and one.block_channels < 2 * max(sizes.C, 4 * channels):
            yield replace(one, blocks=blocks)


def _takes(tile: Tile, sizes: Conv2dSizes, epilogue: str, limits: Limits, precision: str) -> bool:
    if (tile.R, tile.S, tile.epilogue, tile.W) != (
        sizes.R,
        sizes.S,
        EPILOGUES[epilogue],
        sizes.W,
    ) or sizes.S > _MOST_COLUMNS:
        return False
    terms = sizes.K // tile.splits * sizes.R * sizes.S
    whole = sizes.N % 4 == sizes.K % tile.filters == 0 and min(sizes.C, sizes.K) > 0
    short = terms <= LONGEST_CHAIN and tile.grid(sizes)[1] <= MOST_BLOCKS[1]
    return whole and short and tile.patch_rows >= patch_rows(sizes, epilogue, tile.rows)


def _cycles(tile: Tile, sizes: Conv2dSizes, limits: Limits) -> float:
    """An estimate of the time, in cycles of a multiprocessor that issues an instruction to each of its quarters in one.

    Blocks go one after the other to the multiprocessor that is first without work. A guess is what latencies add, more
    where fewer blocks or warps are there to hide them.
    """
    beside, per_row = tile.grid(sizes)
    middle = per_row // 2
    rows = [middle - (y + 1) // 2 if y % 2 else middle + y // 2 for y in range(per_row)]
    times = [_block_cycles(tile, sizes, row * tile.rows) for row in rows]
    blocks, total = beside * per_row, beside * sum(times)
    if blocks > _FEW * tile.blocks * limits.multiprocessors:
        return total / limits.multiprocessors + max(times) / 2
    ends = [0.0] * limits.multiprocessors
    heapify(ends)
    for time in times:
        for _ in range(beside):
            heapreplace(ends, ends[0] + time)
    return max(ends)


def _block_cycles(tile: Tile, sizes: Conv2dSizes, h0: int) -> float:
    """Cycles of one block, from row ``h0`` on, as if it had the multiprocessor for itself."""
    heights = range(h0, h0 + tile.rows)
    taps = [max(0, min(h + 1, sizes.R) - max(0, h - sizes.P + 1)) if h < sizes.H else 0 for h in heights]
    stages, share = sizes.K // tile.filters, tile.filters // tile.splits
    Q = tile.W - tile.S + 1

    loads = Q + tile.S * ceil_div(tile.channels, 4)
    row = 4 * Q * tile.S * tile.channels + loads + 6
    copied_rows = min(sizes.R, h0 + tile.rows) - max(0, h0 - sizes.P + 1)
    pieces = ceil_div(tile.cells * tile.lanes, tile.threads)
    weights = ceil_div(copied_rows * tile.S * tile.filters * tile.block_channels, tile.threads)
    fixed = pieces * {0: 20, 1: 34, 2: 56}[tile.epilogue] + 6 * weights + 100

    warps = tile.group * tile.splits // 32  # of a row
    quarters = [0.0] * 4
    for warp in range(tile.threads // 32):
        quarters[warp % 4] += share * taps[warp // warps] * row + fixed
    together = tile.threads * tile.blocks / 128  # warps of a quarter
    issue = max(quarters) * (1 + 0.25 / together)
    wavefronts = share * sum(taps) * warps * (4 * Q + tile.S * (2 if tile.channels < 4 else tile.channels))
    patch = min(sizes.P, h0 + tile.rows) - max(0, h0 - sizes.R + 1)
    traffic = tile.filters * patch / tile.unit * tile.cell_columns * tile.block_images * _item_bytes(tile.epilogue)
    traffic += copied_rows * tile.S * tile.block_channels * max(32, 4 * tile.filters)
    finish = tile.W * tile.channels * (6 if tile.splits == 1 else 2 + 16 / tile.splits) * tile.threads / 128
    return stages * max(issue, wavefronts, traffic / _BYTES_A_CYCLE) + (2500 + 100 * stages) / tile.blocks + finish


def _item_bytes(epilogue: int) -> int:
    """Bytes of the gradient and what is saved beside it."""
    return {0: 4, 1: 8, 2: 5}[epilogue]


ALGORITHM = Algorithm(
    name="specialised",
    kernels={"fp32": kernel("conv2d/backward_data_specialised")},
    needs=(
        f"multiples of 4 images, sums of {LONGEST_CHAIN} terms, filters of at most {_MOST_COLUMNS} columns, "
        "and images of which registers hold a row"
    ),
    tiles=tiles,
    takes=_takes,
    run=_run,
)
