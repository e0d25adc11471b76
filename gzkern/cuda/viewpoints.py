"""The 16 viewpoints of an image: patches of its two crops, mirrored and turned; ``kernels/viewpoints.cu``."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import check
from ..errors import InputError
from ..shapes import VIEWS
from .launch import Geometry, Kernel, backend_of, ceil_div, choose, elementwise, require_size

FORWARD = {
    "naive": Kernel("viewpoints", "viewpoints_forward_naive"),
    "tiled": Kernel("viewpoints", "viewpoints_forward_tiled"),
}
FORWARD_UINT8 = {
    "naive": Kernel("viewpoints", "viewpoints_forward_naive_uint8"),
    "tiled": Kernel("viewpoints", "viewpoints_forward_tiled_uint8"),
}
BACKWARD = {
    "naive": Kernel("viewpoints", "viewpoints_backward_naive"),
    "tiled": Kernel("viewpoints", "viewpoints_backward_tiled"),
}

_IMAGES, _VALUES, _THREADS = 16, 96, 256  # of a block of the tiled versions


def forward(crops: Any, extent: int) -> Any:
    """Gather the patches of ``extent``² pixels.

    Args:
        crops: (B, 2, T, T, 3), float32 in [0, 1], or uint8, which is scaled by 1/255.
        extent: side S of a patch, at most T.

    Returns:
        (3, S, S, 16·B) float32.
    """
    return gather(crops, extent)


def backward(gradient: Any, target: int) -> Any:
    """Gradient of the crops (B, 2, T, T, 3), T = ``target``: each pixel sums the patches it stands in."""
    return gather_backward(gradient, target)


def gather(crops: Any, extent: int, version: str | None = None) -> Any:
    """:func:`forward` by "naive" or "tiled"."""
    uint8 = getattr(crops, "dtype", None) == np.uint8
    backend = backend_of("viewpoints", np.uint8 if uint8 else np.float32, crops=crops)
    side = crops.shape[2] if crops.ndim == 5 else None
    check.shape("viewpoints", "crops", crops, (None, 2, side, side, 3))
    B, _, T, _, _ = crops.shape
    _require_extent(extent, T)
    version = version or "tiled"
    kernel = choose("viewpoints", FORWARD_UINT8 if uint8 else FORWARD, version)
    shape = (3, extent, extent, VIEWS * B)
    require_size("viewpoints", "the patches", shape)
    patches = backend.empty(shape)
    geometry = elementwise(patches.size) if version == "naive" else _tiles(B, T)
    kernel(backend, geometry, crops, patches, np.uint32(B), np.uint32(T), np.uint32(extent))
    return patches


def gather_backward(gradient: Any, target: int, version: str | None = None) -> Any:
    """:func:`backward` by "naive" or "tiled"."""
    backend = backend_of("viewpoints", gradient=gradient)
    side = gradient.shape[1] if gradient.ndim == 4 else None
    check.shape("viewpoints", "gradient", gradient, (3, side, side, None))
    _, extent, _, N = gradient.shape
    if N % VIEWS:
        raise InputError(f"viewpoints: gradient has {N} patches, expected a multiple of {VIEWS}, the views of an image")
    _require_extent(extent, target)
    version = version or "tiled"
    kernel = choose("viewpoints", BACKWARD, version)
    B, T = N // VIEWS, target
    shape = (B, 2, T, T, 3)
    require_size("viewpoints", "the gradient of the crops", shape)
    dcrops = backend.empty(shape)
    geometry = elementwise(dcrops.size) if version == "naive" else _tiles(B, T)
    kernel(backend, geometry, gradient, dcrops, np.uint32(B), np.uint32(T), np.uint32(extent))
    return dcrops


def _tiles(B: int, T: int) -> Geometry:
    return Geometry((ceil_div(3 * T * T, _VALUES), ceil_div(B, _IMAGES), 2), (_THREADS,))


def _require_extent(extent: int, target: int) -> None:
    if not (isinstance(extent, int | np.integer) and 1 <= extent <= target):
        raise InputError(f"viewpoints: extent is {extent}, expected 1 to {target}, the side of a crop")
