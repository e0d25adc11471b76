"""The gradient of x by warpgroup products of Hopper's tensor cores; ``kernels/conv2d/backward_data_wgmma.cu``."""

from __future__ import annotations

from typing import Any

from ...core.shapes import Conv2dSizes, pool_extent
from ...runtime.backend import Backend, Limits
from ...runtime.kernel import LONGEST_CHAIN, Kernel, ceil_div, extents, kernel, padded
from . import wgmma as conv2d_wgmma
from .algorithm import Algorithm, Problem
from .epilogue import EPILOGUES
from .wgmma import DEPTH, MOST_POSITIONS, PLANES, Layer, Tile

PACK = kernel("conv2d/backward_data_wgmma", "pack")


_POOL, _RELU = EPILOGUES["pool"], EPILOGUES["relu"]


def tiles(sizes: Conv2dSizes, epilogue: str, limits: Limits, precision: str) -> list[Tile]:
    """All tiles that fit, from the least estimated time on."""
    return conv2d_wgmma.tiles(_layer(sizes, epilogue), limits, precision)


def _takes(tile: Tile, sizes: Conv2dSizes, epilogue: str, limits: Limits, precision: str) -> bool:
    return conv2d_wgmma.takes(tile, _layer(sizes, epilogue), limits, precision)


def _pays(tile: Tile, sizes: Conv2dSizes, epilogue: str, limits: Limits, precision: str) -> bool:
    """Tell whether the tile keeps the device busy with what is asked for."""
    return conv2d_wgmma.pays(_layer(sizes, epilogue), tile, limits)


def _run(backend: Backend, kernel: Kernel, tile: Tile, problem: Problem, weight: Any, gradient: Any, saved: Any) -> Any:
    sizes, epilogue, precision = problem.sizes, problem.epilogue, problem.precision
    layer = _layer(sizes, epilogue)
    dx = backend.empty(sizes.x)
    packed = conv2d_wgmma.pack(backend, PACK, weight, tile, PLANES[precision])
    geometry = conv2d_wgmma.geometry(layer, tile, precision)
    scalars = extents(sizes.C, sizes.H, sizes.W, sizes.N, sizes.K)
    kernel(backend, geometry, packed, gradient, saved, dx, *scalars)
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


ALGORITHM = Algorithm(
    name="wgmma",
    kernels={
        "tf32": kernel("conv2d/backward_data_wgmma", "tf32"),
        "fp32x3": kernel("conv2d/backward_data_wgmma", "fp32x3"),
    },
    needs=(
        "compute capability 9.0, multiples of 8 filters, 4 images (16 of a pool) and 32 channels, sums of "
        f"{LONGEST_CHAIN} terms, filters with (R + 1)·(S + 1) ≤ {MOST_POSITIONS}"
    ),
    tiles=tiles,
    takes=_takes,
    run=_run,
    pays=_pays,
)
