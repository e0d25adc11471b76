"""The gradient of the weights by a kernel compiled for a layer; ``kernels/conv2d/backward_weights_specialised.cu``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ...core.shapes import Conv2dSizes
from ...runtime.arrays import require_size
from ...runtime.backend import Backend, Limits
from ...runtime.kernel import LONGEST_CHAIN, Geometry, Kernel, ceil_div, extents, kernel
from .algorithm import Algorithm, Problem
from .backward_weights import sum_parts
from .epilogue import EPILOGUES

_FILTERS, _FILTER_LANES = 8, 4  # filters of a thread, threads side by side
_BLOCK_FILTERS = _FILTERS * _FILTER_LANES
_ITEM_BYTES = 16  # of the description of an item
_MOST_STAGES = 256  # items of so many have room
_MOST_ROWS, _MOST_COLUMNS = 4, 16  # of a thread, of an item
_ROW_LANES = range(8, 17)
_REGISTERS = {384: 136, 256: 216}  # by threads of a block: for what a thread has of sums, inputs and gradients


@dataclass(frozen=True)
class Tile:
    """The template arguments of the kernel, in their order.

    A thread has ``rows`` × ``S`` × 8 sums and takes ``step`` columns at once; ``row_lanes`` × 4 threads are a group,
    ``groups`` a block, each with an item of so many ``columns``.
    """

    R: int
    S: int
    epilogue: int
    rows: int
    row_lanes: int
    groups: int
    columns: int
    step: int

    def fits(self, sizes: Conv2dSizes, epilogue: str) -> bool:
        """Tell whether it is for these filters and this epilogue, and its steps for rows of this length."""
        return (self.R, self.S, self.epilogue) == (sizes.R, sizes.S, EPILOGUES[epilogue]) and sizes.Q % self.step == 0

    @property
    def lanes(self) -> int:
        """Threads of a group."""
        return self.row_lanes * _FILTER_LANES

    @property
    def threads(self) -> int:
        """Threads of a block: whole warps."""
        return 32 * ceil_div(self.groups * self.lanes, 32)

    @property
    def block_rows(self) -> int:
        """Rows (c, r) of a block."""
        return self.rows * self.row_lanes

    @property
    def window(self) -> int:
        """Inputs of four images that a row of a thread's sums needs for a step."""
        return self.S + self.step - 1

    @property
    def registers(self) -> int:
        """Registers of a thread for sums, inputs and gradients on their way."""
        waiting = 5 if self.epilogue == EPILOGUES["pool"] else 8 * self.step
        return self.rows * (self.S * _FILTERS + self.window * 4) + waiting

    def shared(self, stages: int) -> int:
        """Bytes of shared memory of a block."""
        item = self.block_rows * ((self.columns + self.S - 1) | 1) + _BLOCK_FILTERS * (self.columns | 1)
        stage = self.groups * 16 * (8 * ceil_div(item - 1, 8) + 1)
        end = self.groups * 4 * self.rows * self.S * _FILTERS * _FILTER_LANES * (self.row_lanes | 1)
        return max(2 * stage, end) + stages * self.groups * _ITEM_BYTES

    def blocks(self, sizes: Conv2dSizes) -> int:
        """Blocks of the grid for one part of the sum."""
        return ceil_div(sizes.C * sizes.R, self.block_rows) * ceil_div(sizes.K, _BLOCK_FILTERS)

    def items(self, sizes: Conv2dSizes) -> int:
        """That the sum over positions and images is cut into."""
        return sizes.P * ceil_div(sizes.Q, self.columns) * (sizes.N // 4)

    def stages(self, sizes: Conv2dSizes, limits: Limits) -> int:
        """Stages of a part: few enough for its chains of additions, and so that the last wave of blocks is full."""
        items, blocks = self.items(sizes), self.blocks(sizes)
        most = min(_MOST_STAGES, LONGEST_CHAIN // (4 * self.columns))
        least = ceil_div(items, most * self.groups)
        wave = ceil_div(least * blocks, limits.multiprocessors)
        counts = [max(least, (wave + more) * limits.multiprocessors // blocks) for more in range(4)]

        def time(parts: int) -> tuple[int, int]:
            return ceil_div(items, parts * self.groups) * ceil_div(parts * blocks, limits.multiprocessors), parts

        return ceil_div(items, min(counts, key=time) * self.groups)


def _run(backend: Backend, kernel: Kernel, tile: Tile, problem: Problem, x: Any, gradient: Any, saved: Any) -> Any:
    sizes = problem.sizes
    stages = tile.stages(sizes, backend.limits)
    parts = ceil_div(tile.items(sizes), stages * tile.groups)
    shape = (parts, *sizes.weight)
    require_size("conv2d", "the partial sums of dweight", shape)
    partial = backend.empty(shape)
    geometry = Geometry((tile.blocks(sizes) * parts,), (tile.threads,), tile.shared(stages))
    arguments = extents(sizes.C, sizes.H, sizes.W, sizes.N, sizes.K, stages)
    kernel(backend, geometry, x, gradient, saved, partial, *arguments)
    return sum_parts(backend, partial)


def tiles(sizes: Conv2dSizes, epilogue: str, limits: Limits, precision: str) -> list[Tile]:
    """All tiles that fit, from the least estimated time on."""
    if not _takes_sizes(sizes):
        return []
    fitting = (
        each for each in _candidates(sizes, epilogue) if each.shared(each.stages(sizes, limits)) <= limits.shared_bytes
    )
    return sorted(fitting, key=lambda each: _cycles(each, sizes, limits))


def _takes(tile: Tile, sizes: Conv2dSizes, epilogue: str, limits: Limits, precision: str) -> bool:
    return _takes_sizes(sizes) and tile.fits(sizes, epilogue)


def _takes_sizes(sizes: Conv2dSizes) -> bool:
    return sizes.N % 4 == 0 and min(sizes.C, sizes.K, sizes.N) > 0


def _candidates(sizes: Conv2dSizes, epilogue: str) -> Iterator[Tile]:
    step = 1 if sizes.Q % 2 else 2
    for threads, registers in _REGISTERS.items():
        for rows in range(1, _MOST_ROWS + 1):
            for row_lanes in _ROW_LANES:
                for columns in range(step, min(sizes.Q, _MOST_COLUMNS) + 1, step):
                    groups = threads // (row_lanes * _FILTER_LANES)
                    one = Tile(sizes.R, sizes.S, int(EPILOGUES[epilogue]), rows, row_lanes, groups, columns, step)
                    if one.registers <= registers:
                        yield one


def _cycles(tile: Tile, sizes: Conv2dSizes, limits: Limits) -> float:
    """An estimate of the time, in cycles of a multiprocessor that issues an instruction to each of its quarters in one.

    Counted are a thread's multiply-adds, its loads from shared memory, what it takes to rebuild dz and to copy inputs;
    and the bytes that come from the cache, of which a multiprocessor gets about twenty in a cycle. What barriers, begin
    and end take is a guess.
    """
    epilogue = _name(tile.epilogue)
    rebuild, traffic = {"plain": (14, 1.0), "relu": (36, 2.0), "pool": (33, 0.3125)}[epilogue]
    each = _BLOCK_FILTERS * tile.groups / tile.threads  # columns that a thread rebuilds for one that it multiplies
    multiply = tile.step * tile.rows * tile.S * _FILTERS * 4
    load = tile.rows * tile.window + _FILTERS * tile.step
    inputs = tile.groups * tile.block_rows * (tile.columns + tile.S - 1)
    instructions = tile.columns / tile.step * (multiply + load + 12 + each * rebuild) + 60 + 6 * inputs / tile.threads
    warps = tile.threads / 128  # of a quarter; few hide less of what loads take
    issue = instructions * (warps + 0.3) + 200
    arrival = 16 * (inputs + tile.groups * _BLOCK_FILTERS * tile.columns * traffic) / 20
    stages = tile.stages(sizes, limits)
    parts = ceil_div(tile.items(sizes), stages * tile.groups)
    waves = ceil_div(parts * tile.blocks(sizes), limits.multiprocessors)
    sums = parts * sizes.C * sizes.R * sizes.S * sizes.K * 8 / 20 / limits.multiprocessors
    return waves * (stages * max(issue, arrival) + 4000) + sums


def _name(epilogue: int) -> str:
    return next(name for name, number in EPILOGUES.items() if number == epilogue)


ALGORITHM = Algorithm(
    name="specialised",
    kernels={"fp32": kernel("conv2d/backward_weights_specialised")},
    needs="multiples of 4 images, and filters whose rows fit in registers",
    tiles=tiles,
    takes=_takes,
    run=_run,
)
