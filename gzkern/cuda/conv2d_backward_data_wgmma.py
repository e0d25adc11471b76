"""The gradient of x by warpgroup products of Hopper's tensor cores; ``kernels/conv2d_backward_data_wgmma.cu``."""

from __future__ import annotations

from typing import Any

from ..shapes import Conv2dSizes, pool_extent
from . import conv2d_wgmma
from .conv2d_common import FORMS, LONGEST_CHAIN, no_tile, placed, require_gradient
from .conv2d_wgmma import DEPTH, NEEDS, PLANES, Tile
from .launch import Kernel, Limits, ceil_div, extents, padded, require_size

KERNELS = {
    "tf32": Kernel("conv2d_backward_data_wgmma", "conv2d_backward_data_wgmma_tf32"),
    "fp32x3": Kernel("conv2d_backward_data_wgmma", "conv2d_backward_data_wgmma_fp32x3"),
}
"""By precision."""

PACK = Kernel("conv2d_backward_data_wgmma", "conv2d_backward_data_wgmma_pack")

_FORM = {int(number): form for form, number in FORMS.items()}


def choose_tile(sizes: Conv2dSizes, form: str, limits: Limits, precision: str = "tf32") -> Tile | None:
    """The tile of the least estimated time; None where the kernels do not take the sizes, or not on this device."""
    return next(iter(tiles(sizes, form, limits, precision)), None)


def tiles(sizes: Conv2dSizes, form: str, limits: Limits, precision: str = "tf32") -> list[Tile]:
    """All tiles that fit, from the least estimated time on."""
    if sizes.K % DEPTH or sizes.N % (16 if form == "pool" else 4) or sizes.K * sizes.R * sizes.S > LONGEST_CHAIN:
        return []
    return conv2d_wgmma.tiles(
        limits,
        (sizes.R, sizes.S),
        int(FORMS[form]),
        _result(sizes),
        precision,
        lambda tile: _shared_bytes(tile, precision),
    )


def backward_data(
    weight: Any,
    gradient: Any,
    kept: Any,
    form: str,
    sizes: Conv2dSizes,
    precision: str = "tf32",
    tile: Tile | None = None,
) -> Any:
    """dx (C, H, W, N); arguments and errors as ``conv2d.backward_data``."""
    backend = require_gradient(sizes, form, gradient, kept, weight=weight)
    tile = tile or choose_tile(sizes, form, backend.limits, precision)
    if tile is None:
        raise no_tile(sizes, "wgmma", NEEDS)
    require_size("conv2d", "dx", sizes.x)
    dx = backend.empty(sizes.x)
    packed = conv2d_wgmma.pack(backend, PACK, weight, tile, PLANES[precision])
    geometry = conv2d_wgmma.geometry(tile, _result(sizes), _shared_bytes(tile, precision))
    scalars = extents(sizes.C, sizes.H, sizes.W, sizes.N, sizes.K)
    KERNELS[precision].of(tile)(backend, geometry, packed, gradient, placed(kept, gradient), dx, *scalars)
    return dx


def pays(sizes: Conv2dSizes, tile: Tile, limits: Limits) -> bool:
    """Whether the windows fill the blocks, and the blocks the device; else smaller tiles compute in less time."""
    return conv2d_wgmma.filled(tile, _result(sizes), limits) >= 0.8


def _result(sizes: Conv2dSizes) -> tuple[int, int, int, int]:
    return pool_extent(sizes.H), pool_extent(sizes.W), sizes.N, sizes.C


def _shared_bytes(tile: Tile, precision: str) -> int:
    form = _FORM[tile.form]
    pace, images = 2 if form == "pool" else 1, 16 * tile.image_groups

    def extent(windows: int, filter_size: int) -> int:
        return ceil_div(2 * windows + filter_size - 1 + (filter_size - 1) % pace, pace)

    positions = extent(tile.window_rows, tile.R) * extent(tile.window_columns, tile.S)
    gradient = 4 * (positions * images + 8)
    kept = {"plain": 0, "relu": gradient, "pool": padded(positions * images, 16, 128)}[form]
    return tile.stages * (DEPTH * (gradient + kept) + 4 * tile.weights(PLANES[precision]))
