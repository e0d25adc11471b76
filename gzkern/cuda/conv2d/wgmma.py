"""Tiles and launches of the kernels that share conv2d/wgmma.cuh: a window of 2×2 positions and 16 images a warp."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from typing import Any

from ...runtime.arrays import require_size
from ...runtime.backend import Backend, Limits
from ...runtime.kernel import LONGEST_CHAIN, Geometry, Kernel, ceil_div, elementwise, extents

PLANES = {"tf32": 1, "fp32x3": 2}
"""Planes of packed weights, by precision."""

DEPTH = 8
"""Channels of a stage: the depth of a product."""

MOST_POSITIONS = 64
"""Positions of a warp's patch: the loads of all and four times as many products are unrolled."""

_EIGHT_WARPS = ((2, 4, 1), (1, 4, 2), (2, 2, 2), (2, 2, 1), (1, 4, 1), (1, 2, 2), (1, 1, 4))
_BLOCKS = {"tf32": ((1, 3, 4), *_EIGHT_WARPS), "fp32x3": _EIGHT_WARPS}  # rows and columns of windows, 16s of images
_OUTPUTS = {"tf32": (64, 32), "fp32x3": (32,)}
_WARPS = 8  # keep the tensor cores of a multiprocessor busy; by fp32x3 no more have registers
_LEAST_FILLED = 0.8


@dataclass(frozen=True)
class Tile:
    """Template arguments: filter, epilogue, outputs of a warp, windows and 16s of images of a block, stages."""

    R: int
    S: int
    epilogue: int
    outputs: int
    window_rows: int
    window_columns: int
    image_groups: int
    stages: int

    @property
    def warps(self) -> int:
        """Warps of a block."""
        return self.window_rows * self.window_columns * self.image_groups


@dataclass(frozen=True)
class Layer:
    """The product of a pass of a layer.

    Attributes:
        R, S, epilogue: of the tile that it needs.
        depth: channels that are added up.
        outputs: channels of the result.
        rows, columns: windows of the result.
        images: of the result.
        images_by: what their number must be a multiple of.
        patch_bytes: of a stage of a tile, beside its weights.
    """

    R: int
    S: int
    epilogue: int
    depth: int
    outputs: int
    rows: int
    columns: int
    images: int
    images_by: int
    patch_bytes: Callable[[Tile], int]

    def blocks(self, tile: Tile) -> int:
        """Blocks of a launch."""
        windows = ceil_div(self.rows, tile.window_rows) * ceil_div(self.columns, tile.window_columns)
        return windows * ceil_div(self.images, 16 * tile.image_groups) * (self.outputs // tile.outputs)

    def shared_bytes(self, tile: Tile, precision: str) -> int:
        """Bytes of shared memory of a block."""
        weights = 4 * PLANES[precision] * self.R * self.S * tile.outputs * DEPTH
        return tile.stages * (self.patch_bytes(tile) + weights)


def takes(tile: Tile, layer: Layer, limits: Limits, precision: str) -> bool:
    """Tell whether the kernel of a tile computes this layer, on a device of these limits."""
    return (
        limits.capability == 90
        and (tile.R, tile.S, tile.epilogue) == (layer.R, layer.S, layer.epilogue)
        and layer.depth % DEPTH == layer.outputs % tile.outputs == layer.images % layer.images_by == tile.warps % 4 == 0
        and layer.depth * layer.R * layer.S <= LONGEST_CHAIN
        and (layer.R + 1) * (layer.S + 1) <= MOST_POSITIONS
        and (precision == "tf32" or (tile.outputs == 32 and tile.warps <= _WARPS))
        and layer.shared_bytes(tile, precision) <= limits.shared_bytes
    )


def tiles(layer: Layer, limits: Limits, precision: str) -> list[Tile]:
    """All tiles that fit, from the cheapest on.

    A round of blocks costs the products of one; fewer warps than keep the tensor cores busy cost as much as those, and
    stages that are not copied while others are multiplied half as much again. Of equals the larger block wins: less of
    its patch is read by its neighbours too.
    """

    def cost(tile: Tile) -> tuple[float, int]:
        rounds = ceil_div(layer.blocks(tile), limits.multiprocessors)
        return rounds * tile.outputs * max(tile.warps, _WARPS) * (1 if tile.stages > 1 else 1.5), -tile.warps

    candidates = (
        Tile(layer.R, layer.S, layer.epilogue, width, *block, stages)
        for width, block, stages in product(_OUTPUTS[precision], _BLOCKS[precision], (3, 2, 1))
    )
    return sorted((tile for tile in candidates if takes(tile, layer, limits, precision)), key=cost)


def pays(layer: Layer, tile: Tile, limits: Limits) -> bool:
    """Tell whether the windows fill the blocks, and the blocks the device; else smaller tiles compute in less time."""
    block = tile.window_rows * tile.window_columns * 16 * tile.image_groups * tile.outputs
    rounds = ceil_div(layer.blocks(tile), limits.multiprocessors)
    computed = rounds * limits.multiprocessors * block
    return layer.rows * layer.columns * layer.images * layer.outputs >= _LEAST_FILLED * computed


def pack(backend: Backend, kernel: Kernel, weight: Any, tile: Tile, planes: int) -> Any:
    """The weights (C, R, S, K) in the order in which blocks read them; float32, planes × as many.

    Raises:
        InputError: they would have 2³¹ elements or more.
    """
    shape = (planes, *weight.shape)
    require_size("conv2d", "the packed weights", shape)
    packed = backend.empty(shape)
    C, _, _, K = weight.shape
    kernel.of(tile)(backend, elementwise(packed.size), weight, packed, *extents(C, K, planes))
    return packed


def geometry(layer: Layer, tile: Tile, precision: str) -> Geometry:
    """The launch."""
    return Geometry((layer.blocks(tile),), (32 * tile.warps,), layer.shared_bytes(tile, precision))
