"""The forward pass by warpgroup products of Hopper's tensor cores; ``kernels/conv2d_forward_wgmma.cu``."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..shapes import Conv2dSizes, pool_extent
from . import conv2d_wgmma
from .conv2d_common import FORMS, LONGEST_CHAIN, no_tile, require_inputs
from .conv2d_wgmma import DEPTH, MOST_POSITIONS, PLANES, Layer, Tile
from .launch import Kernel, Limits, extents, require_size

KERNELS = {
    "tf32": Kernel("conv2d_forward_wgmma", "conv2d_forward_wgmma_tf32"),
    "fp32x3": Kernel("conv2d_forward_wgmma", "conv2d_forward_wgmma_fp32x3"),
}
"""By precision."""

PACK = Kernel("conv2d_forward_wgmma", "conv2d_forward_wgmma_pack")

NEEDS = (
    f"compute capability 9.0, multiples of 8 channels, 4 images and 32 filters, sums of {LONGEST_CHAIN} terms, filters "
    f"with (R + 1)·(S + 1) ≤ {MOST_POSITIONS}"
)


def choose_tile(sizes: Conv2dSizes, form: str, limits: Limits, precision: str = "tf32") -> Tile | None:
    """The tile of the least estimated time; None where the kernels do not take the sizes, or not on this device."""
    return next(iter(tiles(sizes, form, limits, precision)), None)


def tiles(sizes: Conv2dSizes, form: str, limits: Limits, precision: str = "tf32") -> list[Tile]:
    """All tiles that fit, from the least estimated time on."""
    return conv2d_wgmma.tiles(_layer(sizes, form), limits, precision)


def pays(sizes: Conv2dSizes, form: str, tile: Tile, limits: Limits) -> bool:
    """Whether the tile keeps the device busy with what is asked for."""
    return conv2d_wgmma.pays(_layer(sizes, form), tile, limits)


def convolve(
    x: Any, weight: Any, bias: Any, form: str, precision: str = "tf32", tile: Tile | None = None
) -> tuple[Any, Any]:
    """y and its code; arguments and errors as ``conv2d.convolve``. ``tile`` None: the one for these sizes."""
    backend, sizes = require_inputs(x, weight, bias, form)
    layer = _layer(sizes, form)
    tile = tile or choose_tile(sizes, form, backend.limits, precision)
    if tile is None or not conv2d_wgmma.takes(tile, layer, backend.limits, precision):
        raise no_tile(sizes, "wgmma", NEEDS)
    shape = sizes.y(form)
    require_size("conv2d", "y", shape)
    y = backend.empty(shape)
    code = backend.empty(shape if form == "pool" else (0,), np.uint8)
    packed = conv2d_wgmma.pack(backend, PACK, weight, tile, PLANES[precision])
    geometry = conv2d_wgmma.geometry(layer, tile, precision)
    scalars = extents(sizes.C, sizes.H, sizes.W, sizes.N, sizes.K)
    KERNELS[precision].of(tile)(backend, geometry, x, packed, bias, y, code, *scalars)
    return y, code if form == "pool" else None


def _layer(sizes: Conv2dSizes, form: str) -> Layer:
    windows = pool_extent(sizes.P), pool_extent(sizes.Q)
    return Layer(sizes.R, sizes.S, int(FORMS[form]), sizes.C, sizes.K, *windows, sizes.N, 4, _patch_bytes)


def _patch_bytes(tile: Tile) -> int:
    height, width = 2 * tile.window_rows + tile.R - 1, 2 * tile.window_columns + tile.S - 1
    return 4 * DEPTH * (height * width * 16 * tile.image_groups + 8)
