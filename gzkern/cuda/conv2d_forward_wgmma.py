"""The forward pass by warpgroup products of Hopper's tensor cores; ``kernels/conv2d_forward_wgmma.cu``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..shapes import Conv2dSizes, pool_extent
from .conv2d_common import FORMS, LONGEST_CHAIN, no_tile, require_inputs
from .launch import Geometry, Kernel, Limits, ceil_div, elementwise, extents, require_size

VERSIONS = {
    "tf32": Kernel("conv2d_forward_wgmma", "conv2d_forward_wgmma_tf32"),
    "fp32x3": Kernel("conv2d_forward_wgmma", "conv2d_forward_wgmma_fp32x3"),
}
"""By precision."""

PACK = Kernel("conv2d_forward_wgmma", "conv2d_forward_wgmma_pack")

_PLANES = {"tf32": 1, "fp32x3": 2}
_CHANNELS = 8


@dataclass(frozen=True)
class Tile:
    """Template arguments: of a block so many windows and images, of a warp one window, 16 images and all filters."""

    R: int
    S: int
    form: int
    filters: int
    window_rows: int
    window_columns: int
    image_groups: int
    stages: int

    @property
    def warps(self) -> int:
        """Of a block."""
        return self.window_rows * self.window_columns * self.image_groups

    @property
    def images(self) -> int:
        """Of a block."""
        return 16 * self.image_groups

    def shared_bytes(self, planes: int) -> int:
        """Of a block: patches and weights of its stages."""
        height, width = 2 * self.window_rows + self.R - 1, 2 * self.window_columns + self.S - 1
        channel = height * width * self.images + 8
        return 4 * self.stages * _CHANNELS * (channel + planes * self.R * self.S * self.filters)

    def blocks(self, sizes: Conv2dSizes) -> int:
        """Of a launch."""
        rows, columns = pool_extent(sizes.P), pool_extent(sizes.Q)
        windows = ceil_div(rows, self.window_rows) * ceil_div(columns, self.window_columns)
        return windows * ceil_div(sizes.N, self.images) * (sizes.K // self.filters)


def choose_tile(sizes: Conv2dSizes, form: str, limits: Limits, precision: str = "tf32") -> Tile | None:
    """The tile for these sizes; None where the kernels do not take them, or the device has no such products."""
    if limits.capability != 90 or sizes.C % _CHANNELS or sizes.N % 4 or sizes.K % 32:
        return None
    if sizes.C * sizes.R * sizes.S > LONGEST_CHAIN or (sizes.R + 1) * (sizes.S + 1) > _MOST_POSITIONS:
        return None
    fitting = [
        each
        for filters in (64, 32)
        if sizes.K % filters == 0
        for rows, columns, groups in _BLOCKS
        for stages in (3, 2, 1)
        if (each := Tile(sizes.R, sizes.S, int(FORMS[form]), filters, rows, columns, groups, stages)).shared_bytes(
            _PLANES[precision]
        )
        <= limits.shared_bytes
    ]
    return min(fitting, key=lambda each: _cost(each, sizes, limits), default=None)


_MOST_POSITIONS = 64  # of a warp's patch: as many loads, and four times as many products, are unrolled
_BLOCKS = ((2, 4, 1), (1, 4, 2), (2, 2, 2), (1, 3, 4), (2, 2, 1), (1, 4, 1), (1, 2, 2), (1, 1, 4))  # windows, groups


def _cost(tile: Tile, sizes: Conv2dSizes, limits: Limits) -> tuple[float, int]:
    """Rounds of blocks times the work of one: a warpgroup alone on a multiprocessor does not keep its unit busy.

    One stage alone does not overlap copies with products; equal costs go to the larger block, whose halo is smaller.
    """
    rounds = ceil_div(tile.blocks(sizes), limits.multiprocessors)
    work = tile.filters * max(tile.warps, 8) * (1.0 if tile.stages > 1 else 1.5)
    return rounds * work, -tile.warps


def convolve(
    x: Any, weight: Any, bias: Any, form: str, precision: str = "tf32", tile: Tile | None = None
) -> tuple[Any, Any]:
    """y and its code, None unless the form is "pool"; arguments and errors as ``conv2d.convolve``."""
    backend, sizes = require_inputs(x, weight, bias, form)
    tile = tile or choose_tile(sizes, form, backend.limits, precision)
    if tile is None:
        raise no_tile(sizes, "wgmma", "compute capability 9.0 and multiples of 8 channels, 4 images and 32 filters")
    shape = sizes.y(form)
    require_size("conv2d", "y", shape)
    y = backend.empty(shape)
    code = backend.empty(shape if form == "pool" else (0,), np.uint8)
    planes = _PLANES[precision]
    packed = backend.empty((planes, *sizes.weight))
    PACK.of(tile)(backend, elementwise(packed.size), weight, packed, *extents(sizes.C, sizes.K, planes))
    geometry = Geometry((tile.blocks(sizes),), (32 * tile.warps,), tile.shared_bytes(planes))
    scalars = extents(sizes.C, sizes.H, sizes.W, sizes.N, sizes.K)
    VERSIONS[precision].of(tile)(backend, geometry, x, packed, bias, y, code, *scalars)
    return y, code if form == "pool" else None
