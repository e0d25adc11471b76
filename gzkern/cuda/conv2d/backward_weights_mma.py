"""The gradient of the weights on tensor cores; ``kernels/conv2d/backward_weights_mma.cu``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

from ...core.shapes import Conv2dSizes
from ...runtime.arrays import require_size
from ...runtime.backend import Backend, Limits
from ...runtime.kernel import LONGEST_CHAIN, Geometry, Kernel, ceil_div, extents, kernel, padded
from .algorithm import Algorithm, Problem
from .backward_weights import sum_parts
from .epilogue import EPILOGUES

_FEW_CHANNELS = 8
"""Fewer than these do not fill the rows of a product: tap columns do."""

_MOST_WARPS = 20
_MOST_SUMS = 112  # of a thread
_MOST_REGISTERS = {"tf32": 255, "fp32x3": 200}  # by their estimate: from there on the compiler spills


@dataclass(frozen=True)
class Tile:
    """The template arguments of the kernels, in their order; see there."""

    R: int
    S: int
    Q: int
    epilogue: int
    taps: int
    channels: int
    row_tiles: int
    filter_tiles: int
    row_warps: int
    filter_warps: int
    planes: int
    segments: int

    @property
    def layer(self) -> tuple[int, int, int, int]:
        """The layer of the tile: R, S, Q and the epilogue."""
        return self.R, self.S, self.Q, self.epilogue

    @property
    def step(self) -> int:
        """Tap columns that have rows of their own."""
        return self.S // self.taps

    @property
    def window(self) -> int:
        """Columns of x that a position of a warp meets."""
        return (self.taps - 1) * self.step + 1

    @property
    def length(self) -> int:
        """Columns of a segment."""
        return self.Q // self.segments

    @property
    def filters(self) -> int:
        """Filters of a block."""
        return 16 * self.filter_tiles * self.filter_warps

    @property
    def warps(self) -> int:
        """Warps of a block."""
        return self.row_warps * self.filter_warps * self.planes * self.segments

    @property
    def sums(self) -> int:
        """Sums of a thread."""
        return 4 * self.row_tiles * self.taps * self.filter_tiles

    @property
    def group(self) -> int:
        """Products of a warp that do not wait for each other."""
        return max(group for group in range(1, 8) if self.row_tiles * self.taps % group == 0)

    @property
    def x_floats(self) -> int:
        """Floats of x in shared memory: a ring of rows, as ``Tile`` in the source lays it out."""
        width, channels_innermost = self.Q + self.S - 1, self.channels % 8 == 0
        line = width if channels_innermost else padded(width, self.step, 4)
        channel = padded(self.planes * 2 * self.R * line, 1 if channels_innermost else self.R * self.step, 4)
        return self.channels * channel * 8

    @property
    def dz_floats(self) -> int:
        """Floats of a stage of dz in shared memory."""
        return self.filters // 2 * (self.planes * (self.Q | 1) | 1) * 16

    @property
    def units(self) -> int:
        """Units of what threads rebuild of dz, four images of two filters each."""
        columns = (self.Q + 1) // 2 if self.epilogue == EPILOGUES["pool"] else self.Q
        return columns * self.filters // 2 * 2 * self.planes

    @property
    def kept_floats(self) -> int:
        """Floats of what a stage keeps of the forward pass in shared memory."""
        return self.units * (
            2 if self.epilogue == EPILOGUES["pool"] else 8 if self.epilogue == EPILOGUES["relu"] else 0
        )

    @property
    def shared_bytes(self) -> int:
        """Bytes of shared memory of a block: its stages, at the end its sums."""
        stages = self.x_floats + 2 * (self.dz_floats + 8 * self.units + self.kept_floats)
        rows = self.planes * self.segments * 8 * self.row_tiles * self.row_warps
        return 4 * max(stages, rows * self.taps * (self.filters + 4))

    def stages(self, sizes: Conv2dSizes) -> int:
        """That the sum over positions and images is cut into."""
        return ceil_div(sizes.N, 8 * self.planes) * sizes.P

    def blocks(self, sizes: Conv2dSizes) -> int:
        """Blocks of the grid for one part of the sum."""
        return ceil_div(sizes.C, self.channels) * ceil_div(sizes.K, self.filters)

    def registers(self, precision: str) -> int:
        """Registers of a thread, about: its sums, operands and addresses, and what it takes to copy."""
        operands = 2 * self.row_tiles * self.window + 4 * self.filter_tiles
        if precision == "fp32x3":  # the rests, and a product apart from its sum
            operands = 2 * operands + 4 * self.group
        return self.sums + operands + self.row_tiles + 24


def _run(backend: Backend, kernel: Kernel, tile: Tile, problem: Problem, x: Any, gradient: Any, saved: Any) -> Any:
    sizes, precision = problem.sizes, problem.precision
    stages = _stages(tile, sizes, backend.limits, precision)
    parts = ceil_div(tile.stages(sizes), stages)
    shape = (parts, *sizes.weight)
    require_size("conv2d", "the partial sums of dweight", shape)
    partial = backend.empty(shape)
    geometry = Geometry((tile.blocks(sizes) * parts,), (32 * tile.warps,), tile.shared_bytes)
    scalars = extents(sizes.C, sizes.H, sizes.N, sizes.K, stages)
    kernel(backend, geometry, x, gradient, saved, partial, *scalars)
    return sum_parts(backend, partial)


def tiles(sizes: Conv2dSizes, epilogue: str, limits: Limits, precision: str) -> list[Tile]:
    """All tiles that fit, from the least estimated time on."""
    if not _takes_sizes(sizes):
        return []
    fitting = (each for each in _candidates(sizes, epilogue, precision) if each.shared_bytes <= limits.shared_bytes)

    def cycles(tile: Tile) -> float:
        return _cycles(tile, sizes, limits, precision, _stages(tile, sizes, limits, precision))

    return sorted(fitting, key=cycles)


def _takes(tile: Tile, sizes: Conv2dSizes, epilogue: str, limits: Limits, precision: str) -> bool:
    fits = tile.shared_bytes <= limits.shared_bytes
    return fits and _takes_sizes(sizes) and tile.layer == (sizes.R, sizes.S, sizes.Q, int(EPILOGUES[epilogue]))


def _takes_sizes(sizes: Conv2dSizes) -> bool:
    return sizes.N % 4 == 0 and min(sizes.C, sizes.K) > 0


def _candidates(sizes: Conv2dSizes, epilogue: str, precision: str) -> Iterator[Tile]:
    few = sizes.C < _FEW_CHANNELS
    taps = [t for t in range(1, sizes.S + 1) if sizes.S % t == 0] if few else [sizes.S]
    segments = [s for s in range(1, _MOST_WARPS + 1) if sizes.Q % s == 0 and 8 * sizes.Q // s <= LONGEST_CHAIN]
    for tap, channels in product(taps, [sizes.C] if few else [8, 16, 32]):
        rows = ceil_div(channels * sizes.R * (sizes.S // tap), 8)
        for row_warps in range(1, min(rows, _MOST_WARPS) + 1):
            row_tiles = ceil_div(rows, row_warps)
            if ceil_div(rows, row_tiles) != row_warps:
                continue
            for filter_tiles, filter_warps, planes, segment in product((1, 2), (1, 2, 4), (1, 2, 4), segments):
                warps = (row_tiles, filter_tiles, row_warps, filter_warps, planes, segment)
                each = Tile(sizes.R, sizes.S, sizes.Q, int(EPILOGUES[epilogue]), tap, channels, *warps)
                registers = min(65536 // (128 * ceil_div(each.warps, 4)), _MOST_REGISTERS[precision])
                if each.warps <= _MOST_WARPS and each.sums <= _MOST_SUMS and each.registers(precision) <= registers:
                    yield each


def _stages(tile: Tile, sizes: Conv2dSizes, limits: Limits, precision: str) -> int:
    """Stages of a part: few enough for its chains of additions, and so that the last wave of blocks is full."""
    stages, blocks = max(tile.stages(sizes), 1), tile.blocks(sizes)
    most = min(LONGEST_CHAIN // (8 * tile.length), stages)
    waves = range(1, 4 + ceil_div(ceil_div(stages, most) * blocks, limits.multiprocessors))
    parts = {max(wave * limits.multiprocessors // blocks, 1) for wave in waves}
    fitting = {each for each in (ceil_div(stages, count) for count in parts) if each <= most} | {most}
    return min(fitting, key=lambda each: _cycles(tile, sizes, limits, precision, each))


def _cycles(tile: Tile, sizes: Conv2dSizes, limits: Limits, precision: str, stages: int) -> float:
    """Cycles of the launch by a rough model, good for comparing tiles alone; ``stages`` make a part.

    A stage takes what binds of tensor cores, instructions, shared memory and the level-2 cache. Instructions are
    counted from machine code, what a barrier and a block's first copies take is a guess.
    """
    three = precision == "fp32x3"
    products = tile.length * tile.row_tiles * tile.taps * tile.filter_tiles * (3 if three else 1)
    ready = tile.group if three else tile.sums // 4
    inputs, gradients = (tile.length + tile.window - 1) * tile.row_tiles, tile.length * tile.filter_tiles
    fours = tile.channels * (tile.Q + tile.S - 1) * 2 * tile.planes  # of a row of x
    copied = ceil_div(tile.units, 32) * 150 + ceil_div(fours, 32) * (40 if three else 70)
    split = 8 * (2 * inputs + 4 * gradients) + 4 * products // 3 if three else 0
    quarter = ceil_div(tile.warps, 4)  # warps of a scheduler
    tensor = 6.5 * products * quarter * max(1.0, 2 / quarter, 8 / (quarter * ready))
    issue = quarter * (products + inputs + gradients + split + 6 * tile.row_tiles + 80) + copied / 4
    shared = tile.warps * (2 * inputs + 4 * gradients) + (48 * fours + 64 * tile.units + 8 * tile.dz_floats) / 128
    arrived = 16 * fours + 32 * tile.units + 4 * tile.kept_floats
    stage = max(tensor, issue, shared, arrived / 24) + 150

    blocks = tile.blocks(sizes) * ceil_div(tile.stages(sizes), stages)
    first = 1500 + (16 * fours * tile.R + 64 * tile.units) / 24
    last = 4 * tile.planes * tile.segments * tile.sums * 32 * tile.row_warps * tile.filter_warps / 64
    groups = ceil_div(stages, sizes.P)  # of images: the first stage of each copies R rows
    again = (groups - 1) * max(0.0, 16 * fours * tile.R / 24 - stage)
    parts = ceil_div(tile.stages(sizes), stages) * sizes.C * sizes.R * sizes.S * sizes.K
    waves = ceil_div(blocks, limits.multiprocessors)
    return waves * (first + stages * stage + again + last) + 8 * parts / 20 / limits.multiprocessors


ALGORITHM = Algorithm(
    name="mma",
    kernels={
        "tf32": kernel("conv2d/backward_weights_mma", "tf32"),
        "fp32x3": kernel("conv2d/backward_weights_mma", "fp32x3"),
    },
    needs="multiples of 4 images, and rows of x that fit in shared memory",
    tiles=tiles,
    takes=_takes,
    run=_run,
)
