"""The gradient of x by warpgroup products of Hopper's tensor cores; ``kernels/conv2d/backward_data_wgmma.cu``."""

from __future__ import annotations

from typing import Any

from ...core.shapes import Conv2dSizes, pool_extent
from ...runtime.arrays import require_size
from ...runtime.backend import Limits
from ...runtime.kernel import ceil_div, extents, kernel, padded
from . import wgmma as conv2d_wgmma
from .epilogue import EPILOGUES, LONGEST_CHAIN, dummy_pointer, no_tile, require_gradient
from .wgmma import DEPTH, MOST_POSITIONS, PLANES, Layer, Tile

KERNELS = {
    "tf32": kernel("conv2d/backward_data_wgmma", "tf32"),
    "fp32x3": kernel("conv2d/backward_data_wgmma", "fp32x3"),
}
"""By precision."""

PACK = kernel("conv2d/backward_data_wgmma", "pack")

NEEDS = (
    "compute capability 9.0, multiples of 8 filters, 4 images (16 of a pool) and 32 channels, sums of "
    f"{LONGEST_CHAIN} terms, filters with (R + 1)·(S + 1) ≤ {MOST_POSITIONS}"
)

_POOL, _RELU = EPILOGUES["pool"], EPILOGUES["relu"]


def choose_tile(sizes: Conv2dSizes, epilogue: str, limits: Limits, precision: str = "tf32") -> Tile | None:
    """The tile of the least estimated time; None where the kernels do not take the sizes, or not on this device."""
    return next(iter(tiles(sizes, epilogue, limits, precision)), None)


def tiles(sizes: Conv2dSizes, epilogue: str, limits: Limits, precision: str = "tf32") -> list[Tile]:
    """All tiles that fit, from the least estimated time on."""
    return conv2d_wgmma.tiles(_layer(sizes, epilogue), limits, precision)


def pays(sizes: Conv2dSizes, epilogue: str, tile: Tile, limits: Limits) -> bool:
    """Whether the tile keeps the device busy with what is asked for."""
    return conv2d_wgmma.pays(_layer(sizes, epilogue), tile, limits)


def backward_data(
    weight: Any,
    gradient: Any,
    saved: Any,
    epilogue: str,
    sizes: Conv2dSizes,
    precision: str = "tf32",
    tile: Tile | None = None,
) -> Any:
    """dx; arguments and errors as ``conv2d.backward_data``. ``tile`` None: the one for these sizes."""
    backend = require_gradient(sizes, epilogue, gradient, saved, weight=weight)
    layer = _layer(sizes, epilogue)
    tile = tile or choose_tile(sizes, epilogue, backend.limits, precision)
    if tile is None or not conv2d_wgmma.takes(tile, layer, backend.limits, precision):
        raise no_tile(sizes, "wgmma", NEEDS)
    require_size("conv2d", "dx", sizes.x)
    dx = backend.empty(sizes.x)
    packed = conv2d_wgmma.pack(backend, PACK, weight, tile, PLANES[precision])
    geometry = conv2d_wgmma.geometry(layer, tile, precision)
    scalars = extents(sizes.C, sizes.H, sizes.W, sizes.N, sizes.K)
    KERNELS[precision].of(tile)(backend, geometry, packed, gradient, dummy_pointer(saved, gradient), dx, *scalars)
    return dx


def _layer(sizes: Conv2dSizes, epilogue: str) -> Layer:
    windows, images_by = (pool_extent(sizes.H), pool_extent(sizes.W)), 16 if epilogue == "pool" else 4
    return Layer(
        sizes.R, sizes.S, int(EPILOGUES[epilogue]), sizes.K, sizes.C, *windows, sizes.N, images_by, _patch_bytes
    )


def _patch_bytes(tile: Tile) -> int:
    pace, images = 2 if tile.epilogue == _POOL else 1, 16 * tile.image_groups

    def extent(windows: int, filter_size: int) -> int:
        return ceil_div(2 * windows + filter_size - 1 + (filter_size - 1) % pace, pace)

    positions = extent(tile.window_rows, tile.R) * extent(tile.window_columns, tile.S)
    gradient = 4 * (positions * images + 8)
    codes = padded(positions * images, 16, 128)
    return DEPTH * (gradient + (codes if tile.epilogue == _POOL else gradient if tile.epilogue == _RELU else 0))
