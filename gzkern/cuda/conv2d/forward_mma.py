"""The forward pass on tensor cores, in tf32, fp32x3 and bf16; ``kernels/conv2d/forward_mma.cu``.

Bfloat16 arrays are uint16 in Python: their bits.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from ...core.shapes import Conv2dSizes, pool_extent
from ...runtime.backend import Backend, Limits
from ...runtime.kernel import LONGEST_CHAIN, Geometry, Kernel, ceil_div, extents, kernel, padded
from .algorithm import Algorithm, Problem
from .epilogue import EPILOGUES

_FEW_CHANNELS = 8
"""Fewer than these do not fill a product: its terms run over the taps of all channels."""

_WARP_TILES = ((2, 4), (1, 4), (1, 2))
_WARPS = (1, 2)
_WINDOWS = ((1, 1), (1, 2), (2, 2), (1, 3), (3, 3))
_PARTS = (1, 2, 4)


@dataclass(frozen=True)
class Tile:
    """The template arguments of conv2d/forward_mma.cu, in their order."""

    R: int
    S: int
    flat: int
    M: int
    J: int
    warps_n: int
    warps_k: int
    window_rows: int
    window_columns: int
    parts: int
    rows: int

    def fits(self, sizes: Conv2dSizes) -> bool:
        """Tell whether it is for these filters; flat terms are of a number of channels."""
        return (self.R, self.S) == (sizes.R, sizes.S) and self.flat in (0, sizes.C)

    @property
    def images(self) -> int:
        """Images of a block."""
        return 16 * self.M * self.warps_n

    @property
    def filters(self) -> int:
        """Filters of a block."""
        return 8 * self.J * self.warps_k

    @property
    def threads(self) -> int:
        """Threads of a block."""
        return 32 * self.warps_n * self.warps_k * self.window_rows * self.window_columns * self.parts

    @property
    def patch(self) -> tuple[int, int]:
        """Rows and columns of x that the windows of a block need."""
        return self.R + 2 * self.window_rows - 1, self.S + 2 * self.window_columns - 1

    def blocks(self, sizes: Conv2dSizes) -> int:
        """Blocks of a launch."""
        windows = ceil_div(pool_extent(sizes.P), self.window_rows) * ceil_div(pool_extent(sizes.Q), self.window_columns)
        return ceil_div(sizes.N, self.images) * windows * ceil_div(sizes.K, self.filters)

    def shared(self, precision: str) -> int:
        """Bytes of shared memory a block, as ``Layout`` lays it out."""
        item, depth = _format(precision)
        period = 128 // item
        height, width = self.patch
        if self.flat:
            position = padded(self.images, 8, period)
            row = padded(width * position, 8 * self.S, period)
            channel = padded(height * row, 8 * self.R * self.S, period)
            terms = ceil_div(self.flat * self.R * self.S, depth) * depth
            weights = terms * padded(self.filters, 8, period)
            return item * (self.flat * channel + row + position + self.images + weights) + 4 * terms
        channel = padded(height * width * self.images, 8, period)
        weights = padded(self.rows * self.S * self.filters, 8, period)
        sums = 64 * self.M * self.J * self.threads if self.parts > 1 else 0
        return max(2 * item * depth * self.parts * (channel + weights), sums)


def _run(
    backend: Backend, kernel: Kernel, tile: Tile, problem: Problem, x: Any, weight: Any, bias: Any
) -> tuple[Any, Any]:
    sizes, epilogue, precision = problem.sizes, problem.epilogue, problem.precision
    shape = sizes.y(epilogue)
    y = backend.empty(shape, np.uint16 if precision == "bf16" else np.float32)
    code = backend.empty(shape, np.uint8) if epilogue == "pool" and precision != "bf16" else None
    outputs = (y,) if precision == "bf16" else (y, backend.empty((0,), np.uint8) if code is None else code)
    kernel(
        backend,
        Geometry((tile.blocks(sizes),), (tile.threads,), tile.shared(precision)),
        x,
        weight,
        bias,
        *outputs,
        *extents(sizes.C, sizes.H, sizes.W, sizes.N, sizes.K),
        EPILOGUES[epilogue],
    )
    return y, code


def tiles(sizes: Conv2dSizes, epilogue: str, limits: Limits, precision: str) -> list[Tile]:
    """All tiles that fit, from the least estimated time on."""
    del epilogue  # which the kernels are told
    if not _takes_sizes(sizes, precision):
        return []
    fitting = [each for each in _candidates(sizes, precision) if each.shared(precision) <= limits.shared_bytes]
    return sorted(fitting, key=lambda each: _cycles(each, sizes, limits, precision))


def _takes(tile: Tile, sizes: Conv2dSizes, epilogue: str, limits: Limits, precision: str) -> bool:
    return _takes_sizes(sizes, precision) and tile.fits(sizes) and tile.shared(precision) <= limits.shared_bytes


def _takes_sizes(sizes: Conv2dSizes, precision: str) -> bool:
    multiple = 16 // _format(precision)[0]
    return sizes.N % multiple == sizes.K % multiple == 0 and sizes.C * sizes.R * sizes.S <= LONGEST_CHAIN


def _candidates(sizes: Conv2dSizes, precision: str) -> Iterator[Tile]:
    flat = sizes.C if sizes.C < _FEW_CHANNELS else 0
    warp_tiles = _WARP_TILES[1:] if precision == "fp32x3" else _WARP_TILES  # its rests take registers, too
    for (m, j), warps_n, warps_k, windows in product(warp_tiles, _WARPS, _WARPS, _WINDOWS):
        for parts, rows in product((1,) if flat else _PARTS, (1,) if flat else {1, sizes.R}):
            candidate = Tile(sizes.R, sizes.S, flat, m, j, warps_n, warps_k, windows[0], windows[1], parts, rows)
            if candidate.threads * _registers(candidate, precision) <= 65536:
                yield candidate


def _registers(tile: Tile, precision: str) -> int:
    """Registers that the kernel's launch bounds leave a thread."""
    return 256 if tile.M * tile.J > 4 or precision == "fp32x3" else 128


def _cycles(tile: Tile, sizes: Conv2dSizes, limits: Limits, precision: str) -> float:
    """Cycles of a launch by a rough model, good for comparing tiles alone.

    Of a multiprocessor the tensor cores, shared memory, the schedulers (by instructions as counted in machine code) or
    the level-2 cache bind. Latencies are of products, with fewer than two warps a scheduler, and of the copies of each
    stage; those of the first one are hidden by other blocks alone.
    """
    item, depth = _format(precision)
    warps = tile.threads // 32
    shared = tile.shared(precision)
    blocks = max(1, ceil_div(tile.blocks(sizes), limits.multiprocessors))
    together = min(blocks, limits.shared_bytes // shared, 65536 // (tile.threads * _registers(tile, precision)))

    taps = sizes.R * sizes.S
    stages = 1 if tile.flat else ceil_div(sizes.C, depth * tile.parts) * (sizes.R // tile.rows)
    terms = ceil_div(sizes.C * taps, depth) if tile.flat else stages * tile.rows * sizes.S
    products = terms * 4 * tile.M * tile.J * (3 if precision == "fp32x3" else 1)
    inputs = tile.M * (4 if tile.flat else 2 * (sizes.S + 1) / sizes.S)
    lines = terms * depth * item * (16 * inputs + 8 * tile.J) / 128
    height, width = tile.patch
    copied = sizes.C * item * (height * width * tile.images + taps * tile.filters)

    instructions = products * {"tf32": 3.5, "fp32x3": 5.0, "bf16": 1.3}[precision] + 170 * tile.M * tile.J
    bound = max(
        products * ceil_div(warps, 4) * 6.5 * max(1.0, 8 / (warps * together)),
        lines * warps,
        instructions * warps / 4 + copied / 80,
        copied / 24 + stages * 600 / together,
    )
    exposed = 1500 + (shared if tile.flat else shared / 2) / 24
    return blocks * (bound + exposed / together)


def _format(precision: str) -> tuple[int, int]:
    """Bytes of an element, terms of a product."""
    return (2, 16) if precision == "bf16" else (4, 8)


ALGORITHM = Algorithm(
    name="mma",
    kernels={
        "tf32": kernel("conv2d/forward_mma", "tf32"),
        "fp32x3": kernel("conv2d/forward_mma", "fp32x3"),
        "bf16": kernel("conv2d/forward_mma", "bf16"),
    },
    needs=(
        f"multiples of 4 (bf16: 8) images and filters, sums of {LONGEST_CHAIN} terms, filters that fit in shared memory"
    ),
    tiles=tiles,
    takes=_takes,
    run=_run,
)
