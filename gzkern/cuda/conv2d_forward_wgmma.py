"""The forward pass by warpgroup products of Hopper's tensor cores; ``kernels/conv2d_forward_wgmma.cu``."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..shapes import Conv2dSizes, pool_extent
from . import conv2d_wgmma
from .conv2d_common import FORMS, LONGEST_CHAIN, no_tile, require_inputs
from .conv2d_wgmma import DEPTH, NEEDS, PLANES, Tile
from .launch import Kernel, Limits, extents, require_size

KERNELS = {
    "tf32": Kernel("conv2d_forward_wgmma", "conv2d_forward_wgmma_tf32"),
    "fp32x3": Kernel("conv2d_forward_wgmma", "conv2d_forward_wgmma_fp32x3"),
}
"""By precision."""

PACK = Kernel("conv2d_forward_wgmma", "conv2d_forward_wgmma_pack")


def choose_tile(sizes: Conv2dSizes, form: str, limits: Limits, precision: str = "tf32") -> Tile | None:
    """The tile of the least estimated time; None where the kernels do not take the sizes, or not on this device."""
    return next(iter(tiles(sizes, form, limits, precision)), None)


def tiles(sizes: Conv2dSizes, form: str, limits: Limits, precision: str = "tf32") -> list[Tile]:
    """All tiles that fit, from the least estimated time on."""
    if sizes.C % DEPTH or sizes.N % 4 or sizes.C * sizes.R * sizes.S > LONGEST_CHAIN:
        return []
    return conv2d_wgmma.tiles(
        limits,
        (sizes.R, sizes.S),
        int(FORMS[form]),
        _result(sizes),
        precision,
        lambda tile: _shared_bytes(tile, precision),
    )


def convolve(
    x: Any, weight: Any, bias: Any, form: str, precision: str = "tf32", tile: Tile | None = None
) -> tuple[Any, Any]:
    """y and its code, None unless the form is "pool"; arguments and errors as ``conv2d.convolve``."""
    backend, sizes = require_inputs(x, weight, bias, form)
    tile = tile or choose_tile(sizes, form, backend.limits, precision)
    if tile is None:
        raise no_tile(sizes, "wgmma", NEEDS)
    shape = sizes.y(form)
    require_size("conv2d", "y", shape)
    y = backend.empty(shape)
    code = backend.empty(shape if form == "pool" else (0,), np.uint8)
    packed = conv2d_wgmma.pack(backend, PACK, weight, tile, PLANES[precision])
    geometry = conv2d_wgmma.geometry(tile, _result(sizes), _shared_bytes(tile, precision))
    scalars = extents(sizes.C, sizes.H, sizes.W, sizes.N, sizes.K)
    KERNELS[precision].of(tile)(backend, geometry, x, packed, bias, y, code, *scalars)
    return y, code if form == "pool" else None


def pays(sizes: Conv2dSizes, tile: Tile, limits: Limits) -> bool:
    """Whether the windows fill the blocks, and the blocks the device; else smaller tiles compute in less time."""
    return conv2d_wgmma.filled(tile, _result(sizes), limits) >= 0.8


def _result(sizes: Conv2dSizes) -> tuple[int, int, int, int]:
    return pool_extent(sizes.P), pool_extent(sizes.Q), sizes.N, sizes.K


def _shared_bytes(tile: Tile, precision: str) -> int:
    height, width = 2 * tile.window_rows + tile.R - 1, 2 * tile.window_columns + tile.S - 1
    patch = DEPTH * (height * width * 16 * tile.image_groups + 8)
    return 4 * tile.stages * (patch + tile.weights(PLANES[precision]))
