"""Augmentation on the device: crops sampled from whole images by affine matrices; ``kernels/warp.cu``.

The tables of :mod:`gzkern.augment.tables` lie on the device as staging buffers of ``slots`` batches. The step counter,
which is there too, says which batch is meant: a captured step is replayed without a copy from the host.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..core import arguments
from ..errors import InputError
from ..runtime.arrays import backend_of, require_size
from ..runtime.backend import Backend
from ..runtime.kernel import elementwise, extents, kernel
from .viewpoints import patches_shape, tiles

CROPS = kernel("warp", "crops")
PATCHES = {
    "float32": kernel("warp", "patches"),
    "uint16": kernel("warp", "patches_bf16"),
}
"""By the dtype of the patches."""

LONGEST_SIDE = 32768
"""Pixels of an image; its bytes are counted in 32 bits."""


def crops(images: Any, indices: Any, matrices: Any, shifts: Any, step: Any, target: int) -> Any:
    """Sample both crops of each image of a batch, shift their colours and clip them.

    Args:
        images: (n, H, W, 3) uint8, of any size together; H and W 2 to 32768.
        indices: (slots, B) int64, the image of each example. **Not checked**: an entry outside of [0, n) reads memory
            that is no image's; check tables before they are uploaded.
        matrices: (slots, B, 2, 2, 3) float64, from a crop's (column, row, 1) to (x, y) in the image.
        shifts: (slots, B, 3) float32, added to the colours in [0, 1].
        step: (1,) int64, at least 0; the batch is that at slot ``step`` mod slots.
        target: side T of a crop.

    Returns:
        (B, 2, T, T, 3) float32 in [0, 1].

    Raises:
        InputError: an argument is not as said here.
    """
    backend = _checked(images, indices, matrices, shifts, step, target)
    slots, B = indices.shape
    shape = (B, 2, target, target, 3)
    require_size("warp", "the crops", shape)
    result = backend.empty(shape)
    tables = (images, indices, matrices, shifts, step)
    CROPS(backend, elementwise(result.size), *tables, result, *extents(slots, B, *images.shape[1:3], target))
    return result


def patches(
    images: Any,
    indices: Any,
    matrices: Any,
    shifts: Any,
    step: Any,
    target: int,
    extent: int,
    dtype: Any = np.float32,
) -> Any:
    """The 16 patches of these :func:`crops`, which are not stored.

    ``extent`` is the side S of a patch, at most T, ``dtype`` float32, or uint16 for the bits of bfloat16; the other
    arguments and what is refused are those of :func:`crops`.

    Returns:
        (3, S, S, 16·B), in the order of ``viewpoints.forward``.
    """
    backend = _checked(images, indices, matrices, shifts, step, target)
    slots, B = indices.shape
    arguments.viewpoints_extent("warp", extent, target)
    result = backend.empty(patches_shape("warp", B, target, extent, dtype), dtype)
    tables = (images, indices, matrices, shifts, step)
    sizes = extents(slots, B, *images.shape[1:3], target, extent)
    PATCHES[result.dtype.name](backend, tiles(B, target), *tables, result, *sizes)
    return result


def _checked(images: Any, indices: Any, matrices: Any, shifts: Any, step: Any, target: int) -> Backend:
    dtypes = {"images": np.uint8, "indices": np.int64, "matrices": np.float64, "step": np.int64}
    arrays = {"images": images, "indices": indices, "matrices": matrices, "shifts": shifts, "step": step}
    backend = backend_of("warp", dtypes, large=("images",), **arrays)
    arguments.shape("warp", "images", images, (None, None, None, 3))
    if not all(2 <= side <= LONGEST_SIDE for side in images.shape[1:3]):
        raise InputError(f"warp: images has shape {images.shape}, expected 2 to {LONGEST_SIDE} pixels a side")
    arguments.shape("warp", "indices", indices, (None, None))
    slots, B = indices.shape
    arguments.shape("warp", "matrices", matrices, (slots, B, 2, 2, 3))
    arguments.shape("warp", "shifts", shifts, (slots, B, 3))
    arguments.shape("warp", "step", step, (1,))
    if slots < 1:
        raise InputError(f"warp: indices has shape {indices.shape}, expected at least one slot")
    if not (isinstance(target, int | np.integer) and target >= 1):
        raise InputError(f"warp: target is {target}, expected 1 or more, the side of a crop")
    return backend
