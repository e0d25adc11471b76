"""Tiles and launches of the kernels that share conv2d_wgmma.cuh: a window of 2×2 positions and 16 images a warp."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from typing import Any

from .launch import Backend, Geometry, Kernel, Limits, ceil_div, elementwise, extents

PLANES = {"tf32": 1, "fp32x3": 2}
"""Of packed weights, by precision."""

DEPTH = 8
"""Channels of a stage."""

NEEDS = "compute capability 9.0 and multiples of 8 channels, 4 images (16 for the gradient of a pool) and 32 filters"

_EIGHT_WARPS = ((2, 4, 1), (1, 4, 2), (2, 2, 2), (2, 2, 1), (1, 4, 1), (1, 2, 2), (1, 1, 4))
_BLOCKS = {"tf32": ((1, 3, 4), *_EIGHT_WARPS), "fp32x3": _EIGHT_WARPS}  # rows and columns of windows, 16s of images
_OUTPUTS = {"tf32": (64, 32), "fp32x3": (32,)}
_MOST_POSITIONS = 64  # of a warp's patch: the loads of all and four times as many products are unrolled
_WARPS = 8  # keep the tensor cores of a multiprocessor busy


@dataclass(frozen=True)
class Tile:
    """Template arguments: filter, form, outputs of a warp, windows and 16s of images of a block, stages."""

    R: int
    S: int
    form: int
    outputs: int
    window_rows: int
    window_columns: int
    image_groups: int
    stages: int

    @property
    def warps(self) -> int:
        """Of a block."""
        return self.window_rows * self.window_columns * self.image_groups

    def blocks(self, rows: int, columns: int, images: int, outputs: int) -> int:
        """Of a launch, over so many windows, images and channels of the result."""
        windows = ceil_div(rows, self.window_rows) * ceil_div(columns, self.window_columns)
        return windows * ceil_div(images, 16 * self.image_groups) * (outputs // self.outputs)

    def weights(self, planes: int) -> int:
        """Floats of a stage's weights."""
        return planes * self.R * self.S * self.outputs * DEPTH


def tiles(
    limits: Limits,
    filter_size: tuple[int, int],
    form: int,
    result: tuple[int, int, int, int],
    precision: str,
    shared_bytes: Callable[[Tile], int],
) -> list[Tile]:
    """All tiles whose block fits, from the cheapest on; ``result``: rows and columns of windows, images, channels.

    A round of blocks costs the products of one; fewer warps than keep the tensor cores busy cost as much as those, and
    stages that are not copied while others are multiplied half as much again. Of equals the larger block wins: less of
    its patch is read by its neighbours too.
    """
    R, S = filter_size
    outputs = result[3]
    if limits.capability != 90 or (R + 1) * (S + 1) > _MOST_POSITIONS:
        return []

    def cost(tile: Tile) -> tuple[float, int]:
        rounds = ceil_div(tile.blocks(*result), limits.multiprocessors)
        return rounds * tile.outputs * max(tile.warps, _WARPS) * (1 if tile.stages > 1 else 1.5), -tile.warps

    candidates = (
        Tile(R, S, form, width, *block, stages)
        for width, block in product(_OUTPUTS[precision], _BLOCKS[precision])
        if outputs % width == 0
        for stages in (3, 2, 1)
    )
    return sorted((tile for tile in candidates if shared_bytes(tile) <= limits.shared_bytes), key=cost)


def filled(tile: Tile, result: tuple[int, int, int, int], limits: Limits) -> float:
    """The share of the rounds of blocks, of all multiprocessors, that computes something of the result."""
    rows, columns, images, outputs = result
    each = tile.window_rows * tile.window_columns * 16 * tile.image_groups * tile.outputs
    rounds = ceil_div(tile.blocks(*result), limits.multiprocessors)
    return rows * columns * images * outputs / max(rounds * limits.multiprocessors * each, 1)


def pack(backend: Backend, kernel: Kernel, weight: Any, tile: Tile, planes: int) -> Any:
    """The weights (C, R, S, K) in the order in which blocks read them; float32, planes × as many."""
    packed = backend.empty((planes, *weight.shape))
    C, _, _, K = weight.shape
    kernel.of(tile)(backend, elementwise(packed.size), weight, packed, *extents(C, K, planes))
    return packed


def geometry(tile: Tile, result: tuple[int, int, int, int], shared_bytes: int) -> Geometry:
    """The launch; ``result`` as in :func:`tiles`."""
    return Geometry((tile.blocks(*result),), (32 * tile.warps,), shared_bytes)
