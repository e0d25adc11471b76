"""Sampling the crops from their images (paper, pre-processing): bilinear, and no smoothing before it.

:func:`warp` and :func:`warp_batch` run compiled code, imported at the first call, in the calling thread and
without the interpreter lock; :func:`warp_reference` is the oracle.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .. import check
from ..errors import InputError

COLOUR_AXIS = (-0.0148366, -0.01253134, -0.01040762)
"""What α = 1 adds to (R, G, B) in [0, 1]: the scaled first principal component of the colours of the training
images (paper, data augmentation)."""

# No position this far (in pixels) from its image is meant, and the compiled code's integers hold it.
_FAR = 2.0**30


def warp(
    images: Sequence[np.ndarray] | np.ndarray,
    matrices: np.ndarray,
    target: int,
    colour: np.ndarray | None = None,
) -> np.ndarray:
    """Sample the crops of images that may differ in size.

    Args:
        images: B arrays (H, W, 3) uint8.
        matrices: (B, 2, 2, 3), see :func:`warp_batch`.
        target: samples along a side of a crop.
        colour: (B,) α; no shift if left out.

    Returns:
        (B, 2, target, target, 3) float32 in [0, 1].

    Raises:
        InputError: from :func:`warp_batch`.
    """
    check.shape("warp", "matrices", matrices, (len(images), 2, 2, 3))
    colour = np.zeros(len(images)) if colour is None else colour
    out = np.empty((len(images), 2, target, target, 3), np.float32)
    first = np.zeros(1, np.int64)
    for b, image in enumerate(images):
        one = slice(b, b + 1)
        warp_batch(np.ascontiguousarray(image)[None], first, matrices[one], colour[one], out[one])
    return out


def warp_batch(
    images: np.ndarray, indices: np.ndarray, matrices: np.ndarray, colour: np.ndarray, out: np.ndarray
) -> None:
    """Sample both crops of each ``images[indices[b]]``, shift their colour, write them to ``out``.

    A sample is the bilinear mean of four pixels over 255, plus α · ``COLOUR_AXIS``, clipped to [0, 1]. Beyond
    its border an image goes on as its mirror image about the centres of the edge pixels (``numpy.pad``'s
    "reflect"). Positions are computed in float64, weights and pixels in float32.

    Args:
        images: (n, H, W, 3) uint8, in memory or memory-mapped; H and W at least 2.
        indices: (B,) int64 in [0, n).
        matrices: (B, 2, 2, 3) float64, from a crop's (column, row, 1) to (x, y) in the image.
        colour: (B,) float64, α.
        out: (B, 2, T, T, 3) float32.

    Raises:
        InputError: an argument is not as said here.
    """
    from .jit import warp_images

    count = len(indices)
    check.shape("warp", "images", images, (None, None, None, 3))
    check.shape("warp", "matrices", matrices, (count, 2, 2, 3))
    check.shape("warp", "colour", colour, (count,))
    target = out.shape[2] if out.ndim == 5 else None
    check.shape("warp", "out", out, (count, 2, target, target, 3))
    for name, array, dtype in (("images", images, np.uint8), ("out", out, np.float32)):
        if array.dtype != dtype or not array.flags.c_contiguous:
            raise InputError(
                f"warp: {name} is {array.dtype} with strides {array.strides}, expected {np.dtype(dtype)}, C-contiguous"
            )
    if min(images.shape[1:3]) < 2:
        raise InputError(f"warp: images has shape {images.shape}, expected at least 2 × 2 pixels an image")
    if out.size == 0:
        return
    if indices.min() < 0 or indices.max() >= len(images):
        raise InputError(f"warp: indices are {indices.tolist()}, expected 0 to {len(images) - 1}")
    if not np.abs(matrices).max() < _FAR:  # fails on NaN too
        worst = matrices.flat[np.abs(matrices).argmax()]
        raise InputError(f"warp: matrices has the entry {worst}, expected numbers up to 2**30")
    shifts = np.multiply.outer(colour, COLOUR_AXIS).astype(np.float32)
    warp_images(images, indices.astype(np.int64, copy=False), np.ascontiguousarray(matrices, np.float64), shifts, out)


def warp_reference(image: np.ndarray, matrices: np.ndarray, target: int, colour: float = 0.0) -> np.ndarray:
    """Sample both crops of one image in float64, each of the four pixels by its own reflected index.

    Args:
        image: (H, W, 3), any real dtype, values in [0, 255]; H and W at least 2.
        matrices: (2, 2, 3), see :func:`warp_batch`.
        target: samples along a side of a crop.
        colour: α.

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
    return np.clip(mean / 255.0 + colour * np.array(COLOUR_AXIS), 0.0, 1.0)


def _reflect(index: np.ndarray, size: int) -> np.ndarray:
    """Return the pixel at each index of an axis of ``size`` pixels that goes on mirrored at its edge pixels."""
    period = 2 * (size - 1)
    index = index.astype(np.int64) % period
    return np.minimum(index, period - index)
