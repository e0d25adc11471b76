"""The 16 viewpoints of an image: patches of its two crops, mirrored and turned; ``kernels/viewpoints.cu``."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..core import arguments
from ..core.shapes import VIEWS
from ..errors import InputError
from ..runtime.arrays import backend_of, require_size
from ..runtime.kernel import Geometry, ceil_div, choose, elementwise, extents, kernel

FORWARD = {
    ("float32", "float32"): {
        "naive": kernel("viewpoints", "forward_naive"),
        "tiled": kernel("viewpoints", "forward_tiled"),
    },
    ("uint8", "float32"): {
        "naive": kernel("viewpoints", "forward_naive_uint8"),
        "tiled": kernel("viewpoints", "forward_tiled_uint8"),
    },
    ("float32", "uint16"): {"tiled": kernel("viewpoints", "forward_tiled_bf16")},
    ("uint8", "uint16"): {"tiled": kernel("viewpoints", "forward_tiled_uint8_bf16")},
}
"""By the dtypes of crops and patches."""
BACKWARD = {
    "naive": kernel("viewpoints", "backward_naive"),
    "tiled": kernel("viewpoints", "backward_tiled"),
}

_PRECISIONS = ("fp32", "tf32", "fp32x3", "bf16")  # of what reads the patches
_IMAGES, _PIXELS, _THREADS = 16, 32, 256  # of a block of the tiled versions


def forward(crops: Any, extent: int, *, precision: str = "fp32") -> Any:
    """Gather the patches of ``extent``² pixels.

    Args:
        crops: (B, 2, T, T, 3), float32 in [0, 1], or uint8, which is scaled by 1/255.
        extent: side S of a patch, at most T.
        precision: of what reads the patches; "bf16" is given the bits of bfloat16, uint16.

    Returns:
        (3, S, S, 16·B) float32, or uint16.
    """
    arguments.precision("viewpoints", precision, _PRECISIONS)
    return gather(crops, extent, dtype=np.uint16 if precision == "bf16" else np.float32)


def backward(gradient: Any, target: int) -> Any:
    """Gradient of the crops (B, 2, T, T, 3), T = ``target``: each pixel sums the patches it stands in."""
    return gather_backward(gradient, target)


def gather(crops: Any, extent: int, version: str | None = None, dtype: Any = np.float32) -> Any:
    """:func:`forward` by "naive" or "tiled"; by "tiled" also to ``dtype`` uint16, the bits of bfloat16."""
    uint8 = getattr(crops, "dtype", None) == np.uint8
    backend = backend_of("viewpoints", np.uint8 if uint8 else np.float32, crops=crops)
    arguments.viewpoints_forward(crops, extent)
    B, _, T, _, _ = crops.shape
    shape = patches_shape("viewpoints", B, T, extent, dtype)
    version = version or "tiled"
    kernel = choose("viewpoints", FORWARD[crops.dtype.name, np.dtype(dtype).name], version)
    patches = backend.empty(shape, dtype)
    geometry = elementwise(patches.size) if version == "naive" else tiles(B, T)
    kernel(backend, geometry, crops, patches, *extents(B, T, extent))
    return patches


def gather_backward(gradient: Any, target: int, version: str | None = None) -> Any:
    """:func:`backward` by "naive" or "tiled"."""
    backend = backend_of("viewpoints", gradient=gradient)
    arguments.viewpoints_backward(gradient, target)
    _, extent, _, N = gradient.shape
    version = version or "tiled"
    kernel = choose("viewpoints", BACKWARD, version)
    B, T = N // VIEWS, target
    shape = (B, 2, T, T, 3)
    require_size("viewpoints", "the gradient of the crops", shape)
    dcrops = backend.empty(shape)
    geometry = elementwise(dcrops.size) if version == "naive" else tiles(B, T)
    kernel(backend, geometry, gradient, dcrops, *extents(B, T, extent))
    return dcrops


def patches_shape(op: str, B: int, target: int, extent: int, dtype: Any) -> tuple[int, ...]:
    """(3, S, S, 16·B), S = ``extent``: the patches of B images with crops of ``target``² pixels.

    Raises:
        InputError: ``dtype`` cannot be, or the patches are too many.
    """
    if np.dtype(dtype) not in (np.float32, np.uint16):
        raise InputError(f"{op}: dtype is {np.dtype(dtype)}, expected float32, or uint16 for the bits of bfloat16")
    shape = (3, extent, extent, VIEWS * B)
    require_size(op, "the patches", shape)
    return shape


def tiles(B: int, T: int) -> Geometry:
    """The blocks of ``kernels/include/views.cuh`` for B images with crops of T² pixels."""
    return Geometry((ceil_div(T * T, _PIXELS), ceil_div(B, _IMAGES), 2), (_THREADS,))
