"""The gradient of x on tensor cores, in tf32 or by three tf32 products; ``kernels/conv2d/backward_data_mma.cu``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

from ...core.shapes import Conv2dSizes, pool_extent
from ...runtime.backend import Backend, Limits
from ...runtime.kernel import LONGEST_CHAIN, Geometry, Kernel, ceil_div, extents, kernel, padded
from .algorithm import Algorithm, Problem
from .epilogue import EPILOGUES

_LEAST_CHANNELS = 8  # of a product
_WARP_TILES = {"tf32": ((2, 4), (1, 4), (2, 2), (1, 2)), "fp32x3": ((1, 4), (2, 2), (1, 2))}
_WARPS = (1, 2)
_WINDOWS = ((1, 1), (1, 2), (2, 1), (1, 3), (2, 2), (2, 4), (3, 3))
_PARTS = (1, 2, 4)


@dataclass(frozen=True)
class Tile:
    """Template arguments: of a warp 16·M images and 8·J channels of one window, of a block so many warps each way."""

    R: int
    S: int
    epilogue: int
    M: int
    J: int
    warps_n: int
    warps_c: int
    window_rows: int
    window_columns: int
    parts: int

    @property
    def threads(self) -> int:
        """Threads of a block."""
        return 32 * self.warps_n * self.warps_c * self.window_rows * self.window_columns * self.parts

    @property
    def images(self) -> int:
        """Images of a block."""
        return 16 * self.M * self.warps_n

    @property
    def channels(self) -> int:
        """Channels of a block."""
        return 8 * self.J * self.warps_c

    @property
    def cells(self) -> tuple[int, int]:
        """Rows and columns of the gradient that the windows of a block need."""
        height, width = self.R + 2 * self.window_rows - 1, self.S + 2 * self.window_columns - 1
        return (pool_extent(height), pool_extent(width)) if self.epilogue == EPILOGUES["pool"] else (height, width)

    @property
    def shared_bytes(self) -> int:
        """Bytes of shared memory of a block: two stages of cells, codes and weights, or the sums of its parts."""
        rows, columns = self.cells
        cell = self.images + (self.images // 4 if self.epilogue == EPILOGUES["pool"] else 0)
        weights = self.channels * padded(self.R * self.S * 8 * self.parts, 8, 32)
        sums = 64 * self.M * self.J * self.threads if self.parts > 1 else 0
        return max(8 * (8 * self.parts * padded(rows * columns * cell, 4, 16) + weights), sums)

    def blocks(self, sizes: Conv2dSizes) -> int:
        """Blocks of a launch."""
        windows = ceil_div(pool_extent(sizes.H), self.window_rows) * ceil_div(pool_extent(sizes.W), self.window_columns)
        return windows * ceil_div(sizes.N, self.images) * ceil_div(sizes.C, self.channels)


def _run(backend: Backend, kernel: Kernel, tile: Tile, problem: Problem, weight: Any, gradient: Any, saved: Any) -> Any:
    sizes = problem.sizes
    dx = backend.empty(sizes.x)
    geometry = Geometry((tile.blocks(sizes),), (tile.threads,), tile.shared_bytes)
    scalars = extents(sizes.C, sizes.H, sizes.W, sizes.N, sizes.K)
    kernel(backend, geometry, weight, gradient, saved, dx, *scalars)
    return dx


def tiles(sizes: Conv2dSizes, epilogue: str, limits: Limits, precision: str) -> list[Tile]:
    """All tiles that fit, from the least estimated time on."""
    if not _takes_sizes(sizes):
        return []
    fitting = [each for each in _candidates(sizes, epilogue, precision) if each.shared_bytes <= limits.shared_bytes]
    return sorted(fitting, key=lambda each: _cycles(each, sizes, limits, precision))


def _takes(tile: Tile, sizes: Conv2dSizes, epilogue: str, limits: Limits, precision: str) -> bool:
    fits = tile.shared_bytes <= limits.shared_bytes
    return fits and _takes_sizes(sizes) and (tile.R, tile.S, tile.epilogue) == (sizes.R, sizes.S, EPILOGUES[epilogue])


def _takes_sizes(sizes: Conv2dSizes) -> bool:
    short = sizes.K * sizes.R * sizes.S <= LONGEST_CHAIN
    return sizes.C >= _LEAST_CHANNELS and sizes.N % 4 == sizes.K % 4 == 0 and short


def _candidates(sizes: Conv2dSizes, epilogue: str, precision: str) -> Iterator[Tile]:
    for (m, j), n, c, windows, parts in product(_WARP_TILES[precision], _WARPS, _WARPS, _WINDOWS, _PARTS):
        each = Tile(sizes.R, sizes.S, int(EPILOGUES[epilogue]), m, j, n, c, *windows, parts)
        if each.threads <= _threads(each, precision):
            yield each


def _threads(tile: Tile, precision: str) -> int:
    """Threads of a multiprocessor at once, by their registers."""
    return 256 if tile.M * tile.J == 8 or precision == "fp32x3" else 384


def _cycles(tile: Tile, sizes: Conv2dSizes, limits: Limits, precision: str) -> float:
    """Cycles of a launch by a rough model, good for comparing tiles alone.

    Of a multiprocessor the tensor cores, the issue of instructions, shared memory or the level-2 cache bind; with fewer
    than two warps a scheduler latencies do. The first stage of a block is hidden by other blocks alone.
    """
    blocks = ceil_div(tile.blocks(sizes), limits.multiprocessors)
    fitting = min(limits.shared_bytes // tile.shared_bytes, _threads(tile, precision) // tile.threads)
    together = max(1, min(blocks, fitting))
    warps, stages = tile.threads // 32, ceil_div(sizes.K, 8 * tile.parts)
    pooled, threefold = tile.epilogue == EPILOGUES["pool"], precision == "fp32x3"

    taps = _mean_taps(sizes.H, tile.R, tile.window_rows) * _mean_taps(sizes.W, tile.S, tile.window_columns)
    products = 4 * tile.M * tile.J * (3 if threefold else 1)
    rows, columns = tile.cells
    pieces = ceil_div(2 * tile.parts * rows * columns * tile.images, tile.threads)
    selected = 24 * tile.M if pooled else 4
    taken_apart = 80 * tile.M + 8 * tile.J if threefold else 0
    issued = taps * (products + 7 * tile.J + selected + taken_apart) + 60 * pieces
    read = taps * (4 * 2 * tile.M * (0.625 if pooled else 1) + 2 * tile.J) + 5 * pieces

    tensor = stages * taps * products * ceil_div(warps, 4) * 6.5 * max(1.0, 8 / (warps * together))
    level2 = _bytes(tile, sizes) / 24
    work = max(tensor, stages * issued * ceil_div(warps, 4), stages * read * warps, level2)
    return blocks * (work + (2000 + tile.shared_bytes / 48) / together)


def _mean_taps(extent: int, taps: int, windows: int) -> float:
    """Rows (columns) of the filters that a window's warp does not leave out."""
    firsts = range(0, 2 * windows * _spans(extent, windows), 2)
    return sum(max(0, min(taps, extent - h) - max(0, taps - 2 - h)) for h in firsts) / len(firsts)


def _spans(extent: int, windows: int) -> int:
    """Blocks along rows (columns)."""
    return ceil_div(pool_extent(extent), windows)


def _bytes(tile: Tile, sizes: Conv2dSizes) -> float:
    """Bytes that a block reads; cells around dz cost none."""
    pooled = tile.epilogue == EPILOGUES["pool"]
    unit = 2 if pooled else 1
    cells = 1.0
    for extent, taps, windows in ((sizes.H, tile.R, tile.window_rows), (sizes.W, tile.S, tile.window_columns)):
        last = extent - taps  # of dz
        firsts = range(0, 2 * windows * _spans(extent, windows), 2 * windows)
        inside = [min(last, h + 2 * windows - 1) // unit - max(0, h - taps + 1) // unit + 1 for h in firsts]
        cells *= sum(max(0, count) for count in inside) / len(inside)
    item = 5 if pooled else 8 if tile.epilogue == EPILOGUES["relu"] else 4
    return sizes.K * (cells * tile.images * item + 4 * tile.channels * tile.R * tile.S)


ALGORITHM = Algorithm(
    name="mma",
    kernels={
        "tf32": kernel("conv2d/backward_data_mma", "tf32"),
        "fp32x3": kernel("conv2d/backward_data_mma", "fp32x3"),
    },
    needs=(
        f"8 channels, multiples of 4 images and filters, sums of {LONGEST_CHAIN} terms, and shared memory for "
        "the filters"
    ),
    tiles=tiles,
    takes=_takes,
    run=_run,
)
