"""Sampling the crops from their images (paper, pre-processing): bilinear, and no smoothing before it.

:func:`warp` and :func:`warp_batch` run compiled code, imported at the first call, in the calling thread and
without the interpreter lock; :func:`warp_reference` is the oracle.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..core import arguments
from ..errors import InputError

# No position this far (in pixels) from its image is meant, and the compiled code's integers hold it.
_FAR = 2.0**30


def warp(
    images: Sequence[np.ndarray] | np.ndarray,
    matrices: np.ndarray,
    target: int,
    shifts: np.ndarray | None = None,
) -> np.ndarray:
    """Sample the crops of images that may differ in size.

    Args:
        images: B arrays (H, W, 3) uint8.
        matrices: (B, 2, 2, 3), see :func:`warp_batch`.
        target: samples along a side of a crop.
        shifts: (B, 3), see :func:`warp_batch`; none if left out.

    Returns:
        (B, 2, target, target, 3) float32 in [0, 1].

    Raises:
        InputError: from :func:`warp_batch`.
    """
    arguments.shape("warp", "matrices", matrices, (len(images), 2, 2, 3))
    shifts = np.zeros((len(images), 3), np.float32) if shifts is None else shifts
    out = np.empty((len(images), 2, target, target, 3), np.float32)
    first = np.zeros(1, np.int64)
    for b, image in enumerate(images):
        one = slice(b, b + 1)
        warp_batch(np.ascontiguousarray(image)[None], first, matrices[one], shifts[one], out[one])
    return out


def warp_batch(
    images: np.ndarray, indices: np.ndarray, matrices: np.ndarray, shifts: np.ndarray, out: np.ndarray
) -> None:
    """Sample both crops of each ``images[indices[b]]``, shift their colours, write them to ``out``.

    A sample is the bilinear mean of four pixels over 255, plus the image's shift, clipped to [0, 1]. Beyond
    its border an image goes on as its mirror image about the centres of the edge pixels (``numpy.pad``'s
    "reflect"). Positions are computed in float64, weights and pixels in float32.

    Args:
        images: (n, H, W, 3) uint8, in memory or memory-mapped; H and W at least 2.
        indices: (B,) int64 in [0, n).
        matrices: (B, 2, 2, 3) float64, from a crop's (column, row, 1) to (x, y) in the image.
        shifts: (B, 3) float32.
        out: (B, 2, T, T, 3) float32.

    Raises:
        InputError: an argument is not as said here.
    """
    from .jit import warp_images

    count = len(indices)
    arguments.shape("warp", "images", images, (None, None, None, 3))
    arguments.shape("warp", "matrices", matrices, (count, 2, 2, 3))
    arguments.shape("warp", "shifts", shifts, (count, 3))
    target = out.shape[2] if out.ndim == 5 else None
    arguments.shape("warp", "out", out, (count, 2, target, target, 3))
    for name, array, dtype in (("images", images, np.uint8), ("shifts", shifts, np.float32), ("out", out, np.float32)):
        if array.dtype != dtype or not array.flags.c_contiguous:
            raise InputError(
                f"warp: {name} is {array.dtype} with strides {array.strides}, expected {np.dtype(dtype)}, C-contiguous"
            )
    if min(images.shape[1:3]) < 2:
        raise InputError(f"warp: images has shape {images.shape}, expected at least 2 × 2 pixels an image")
    if out.size == 0:
        return
    require_tables(indices, matrices, len(images))
    warp_images(images, indices.astype(np.int64, copy=False), np.ascontiguousarray(matrices, np.float64), shifts, out)


def load() -> None:
    """Import the JIT code now instead of at the first call."""
    from . import jit  # noqa: F401


def require_tables(indices: np.ndarray, matrices: np.ndarray, count: int) -> None:
    """Refuse what would sample other memory than ``count`` images, here or on a device, which cannot check it.

    Raises:
        InputError: an index outside of [0, count), a matrix with an entry that is no number of pixels.
    """
    if indices.size == 0:
        return
    if indices.min() < 0 or indices.max() >= count:
        worst = min(indices.min(), 0) or indices.max()
        raise InputError(f"warp: indices has the entry {worst}, expected 0 to {count - 1}")
    if not np.abs(matrices).max() < _FAR:  # fails on NaN too
        worst = matrices.flat[np.abs(matrices).argmax()]
        raise InputError(f"warp: matrices has the entry {worst}, expected numbers up to 2**30")


def warp_reference(
    image: np.ndarray, matrices: np.ndarray, target: int, shift: Sequence[float] | np.ndarray = (0.0, 0.0, 0.0)
) -> np.ndarray:
    """Sample both crops of one image in float64, each of the four pixels by its own reflected index.

    Args:
        image: (H, W, 3), any real dtype, values in [0, 255]; H and W at least 2.
        matrices: (2, 2, 3), see :func:`warp_batch`.
        target: samples along a side of a crop.
        shift: of (R, G, B).

    Returns:
        (2, target, target, 3) float64 in [0, 1].
    """
    height, width = image.shape[:2]
    row, column = np.indices((target, target))
    position = np.stack([column, row, np.ones_like(row)], axis=-1) @ matrices[:, None].swapaxes(-1, -2)
    base = np.floor(position)
    fx, fy = np.split(position - base, 2, axis=-1)
    x, y = base[..., 0], base[..., 1]
    left, right = _reflect(x, width), _reflect(x + 1, width)
    top, bottom = _reflect(y, height), _reflect(y + 1, height)
    upper = (1 - fx) * image[top, left] + fx * image[top, right]
    lower = (1 - fx) * image[bottom, left] + fx * image[bottom, right]
    mean = (1 - fy) * upper + fy * lower
    return np.clip(mean / 255.0 + np.asarray(shift), 0.0, 1.0)


def _reflect(index: np.ndarray, size: int) -> np.ndarray:
    """Return the pixel at each index of an axis of ``size`` pixels that goes on mirrored at its edge pixels."""
    period = 2 * (size - 1)
    index = index.astype(np.int64) % period
    return np.minimum(index, period - index)
