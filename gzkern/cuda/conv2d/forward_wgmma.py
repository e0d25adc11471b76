"""The forward pass by warpgroup products of Hopper's tensor cores; ``kernels/conv2d/forward_wgmma.cu``."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...core.shapes import Conv2dSizes, pool_extent
from ...runtime.arrays import require_size
from ...runtime.backend import Limits
from ...runtime.kernel import extents, kernel
from . import wgmma as conv2d_wgmma
from .epilogue import EPILOGUES, LONGEST_CHAIN, no_tile, require_inputs
from .wgmma import DEPTH, MOST_POSITIONS, PLANES, Layer, Tile

KERNELS = {
    "tf32": kernel("conv2d/forward_wgmma", "tf32"),
    "fp32x3": kernel("conv2d/forward_wgmma", "fp32x3"),
}
"""By precision."""

PACK = kernel("conv2d/forward_wgmma", "pack")

NEEDS = (
    f"compute capability 9.0, multiples of 8 channels, 4 images and 32 filters, sums of {LONGEST_CHAIN} terms, filters "
    f"with (R + 1)·(S + 1) ≤ {MOST_POSITIONS}"
)


def choose_tile(sizes: Conv2dSizes, epilogue: str, limits: Limits, precision: str = "tf32") -> Tile | None:
    """The tile of the least estimated time; None where the kernels do not take the sizes, or not on this device."""
    return next(iter(tiles(sizes, epilogue, limits, precision)), None)


def tiles(sizes: Conv2dSizes, epilogue: str, limits: Limits, precision: str = "tf32") -> list[Tile]:
    """All tiles that fit, from the least estimated time on."""
    return conv2d_wgmma.tiles(_layer(sizes, epilogue), limits, precision)


def pays(sizes: Conv2dSizes, epilogue: str, tile: Tile, limits: Limits) -> bool:
    """Whether the tile keeps the device busy with what is asked for."""
    return conv2d_wgmma.pays(_layer(sizes, epilogue), tile, limits)


def convolve(
    x: Any, weight: Any, bias: Any, epilogue: str, precision: str = "tf32", tile: Tile | None = None
) -> tuple[Any, Any]:
    """y and its code; arguments and errors as ``conv2d.convolve``. ``tile`` None: the one for these sizes."""
    backend, sizes = require_inputs(x, weight, bias, epilogue)
    layer = _layer(sizes, epilogue)
    tile = tile or choose_tile(sizes, epilogue, backend.limits, precision)
    if tile is None or not conv2d_wgmma.takes(tile, layer, backend.limits, precision):
        raise no_tile(sizes, "wgmma", NEEDS)
    shape = sizes.y(epilogue)
    require_size("conv2d", "y", shape)
    y = backend.empty(shape)
    code = backend.empty(shape if epilogue == "pool" else (0,), np.uint8)
    packed = conv2d_wgmma.pack(backend, PACK, weight, tile, PLANES[precision])
    geometry = conv2d_wgmma.geometry(layer, tile, precision)
    scalars = extents(sizes.C, sizes.H, sizes.W, sizes.N, sizes.K)
    KERNELS[precision].of(tile)(backend, geometry, x, packed, bias, y, code, *scalars)
    return y, code if epilogue == "pool" else None


def _layer(sizes: Conv2dSizes, epilogue: str) -> Layer:
    windows = pool_extent(sizes.P), pool_extent(sizes.Q)
    return Layer(sizes.R, sizes.S, int(EPILOGUES[epilogue]), sizes.C, sizes.K, *windows, sizes.N, 4, _patch_bytes)


def _patch_bytes(tile: Tile) -> int:
    height, width = 2 * tile.window_rows + tile.R - 1, 2 * tile.window_columns + tile.S - 1
    return 4 * DEPTH * (height * width * 16 * tile.image_groups + 8)
