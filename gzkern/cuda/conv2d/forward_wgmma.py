"""The forward pass by warpgroup products of Hopper's tensor cores; ``kernels/conv2d/forward_wgmma.cu``."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...core.shapes import Conv2dSizes, pool_extent
from ...runtime.backend import Backend, Limits
from ...runtime.kernel import LONGEST_CHAIN, Kernel, extents, kernel
from . import wgmma as conv2d_wgmma
from .algorithm import Algorithm, Problem
from .epilogue import EPILOGUES
from .wgmma import DEPTH, MOST_POSITIONS, PLANES, Layer, Tile

PACK = kernel("conv2d/forward_wgmma", "pack")


def tiles(sizes: Conv2dSizes, epilogue: str, limits: Limits, precision: str) -> list[Tile]:
    """All tiles that fit, from the least estimated time on."""
    return conv2d_wgmma.tiles(_layer(sizes, epilogue), limits, precision)


def _takes(tile: Tile, sizes: Conv2dSizes, epilogue: str, limits: Limits, precision: str) -> bool:
    return conv2d_wgmma.takes(tile, _layer(sizes, epilogue), limits, precision)


def _pays(tile: Tile, sizes: Conv2dSizes, epilogue: str, limits: Limits, precision: str) -> bool:
    """Tell whether the tile keeps the device busy with what is asked for."""
    return conv2d_wgmma.pays(_layer(sizes, epilogue), tile, limits)


def _run(
    backend: Backend, kernel: Kernel, tile: Tile, problem: Problem, x: Any, weight: Any, bias: Any
) -> tuple[Any, Any]:
    sizes, epilogue, precision = problem.sizes, problem.epilogue, problem.precision
    layer = _layer(sizes, epilogue)
    shape = sizes.y(epilogue)
    y = backend.empty(shape)
    code = backend.empty(shape if epilogue == "pool" else (0,), np.uint8)
    packed = conv2d_wgmma.pack(backend, PACK, weight, tile, PLANES[precision])
    geometry = conv2d_wgmma.geometry(layer, tile, precision)
    scalars = extents(sizes.C, sizes.H, sizes.W, sizes.N, sizes.K)
    kernel(backend, geometry, x, packed, bias, y, code, *scalars)
    return y, code if epilogue == "pool" else None


def _layer(sizes: Conv2dSizes, epilogue: str) -> Layer:
    windows = pool_extent(sizes.P), pool_extent(sizes.Q)
    return Layer(sizes.R, sizes.S, int(EPILOGUES[epilogue]), sizes.C, sizes.K, *windows, sizes.N, 4, _patch_bytes)


def _patch_bytes(tile: Tile) -> int:
    height, width = 2 * tile.window_rows + tile.R - 1, 2 * tile.window_columns + tile.S - 1
    return 4 * DEPTH * (height * width * 16 * tile.image_groups + 8)


ALGORITHM = Algorithm(
    name="wgmma",
    kernels={
        "tf32": kernel("conv2d/forward_wgmma", "tf32"),
        "fp32x3": kernel("conv2d/forward_wgmma", "fp32x3"),
    },
    needs=(
        f"compute capability 9.0, multiples of 8 channels, 4 images and 32 filters, sums of {LONGEST_CHAIN} "
        f"terms, filters with (R + 1)·(S + 1) ≤ {MOST_POSITIONS}"
    ),
    tiles=tiles,
    takes=_takes,
    run=_run,
    pays=_pays,
)
