"""The fast warp: Numba, single-threaded and without the interpreter lock; see gzkern.augment.warp.

A row of a crop is made in passes over its samples, of which all but the bilinear mean become vector code.
"""
# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import math

import numpy as np
from numba import njit, types

from ..compiling import say_when_compiling

say_when_compiling()

# Declared read-only, the images may be an array or a memory map of a file: one compiled form for both.
_SIGNATURE = types.uint64(
    types.Array(types.uint8, 4, "C", readonly=True),
    types.int64[::1],
    types.float64[:, :, :, ::1],
    types.float32[:, ::1],
    types.float32[:, :, :, :, ::1],
)
_CACHE_LINE = 64  # bytes


@njit
def _read_ahead(pixels, height, matrices, target):
    """Bring the image rows that the crops sample into the cache: read a byte a cache line, return the sum.

    The samples of a rotated crop jump from row to row and wait for memory at each; a sequential read the
    processor prefetches. It makes the warp of an image that is not in the cache yet 1.8 times faster.
    """
    first, last = float(height), 0.0
    for k in range(2):
        _, (yi, yj, y0) = matrices[k]
        across, down = yi * (target - 1), yj * (target - 1)
        first = min(first, y0 + min(across, 0.0) + min(down, 0.0))
        last = max(last, y0 + max(across, 0.0) + max(down, 0.0))
    pitch = len(pixels) // height
    start, stop = int(max(first, 0.0)) * pitch, int(min(last + 2.0, height)) * pitch
    total = np.uint64(0)
    for position in range(start, stop, _CACHE_LINE):
        total += pixels[position]
    return total


@njit(error_model="numpy")
def _locate(start, step, size, positions, base, fraction):
    """Split the positions start + step·i on an axis of ``size`` pixels into pixel ``base`` and ``fraction``.

    Positions outside are mirrored about the centres of the first and the last pixel, any number of times.
    """
    last = size - 1.0
    for i in range(len(positions)):
        positions[i] = start + step * i
    # The positions are monotonic: both ends inside, all inside.
    if min(positions[0], positions[-1]) < 0.0 or max(positions[0], positions[-1]) > last:
        for i in range(len(positions)):
            distance = abs(positions[i])
            distance -= 2.0 * last * math.floor(distance / (2.0 * last))
            positions[i] = max(0.0, min(distance, 2.0 * last - distance))
    for i in range(len(positions)):
        base[i] = min(np.int32(positions[i]), np.int32(size - 2))  # base + 1 is a pixel too
        fraction[i] = positions[i] - base[i]


@njit(fastmath={"contract"})
def _interpolate(pixels, width, left, top, fx, fy, row):
    """Write to ``row`` (3T,) the bilinear mean of the pixels (left, top) to (left + 1, top + 1)."""
    # Unsigned, an index needs no test for a negative value.
    right, below = np.uintp(3), np.uintp(3 * width)
    for i in range(len(left)):
        corner = np.uintp(3 * (top[i] * width + left[i]))
        for channel in range(3):
            p = corner + np.uintp(channel)
            upper, lower = np.float32(pixels[p]), np.float32(pixels[p + below])
            upper += fx[i] * (np.float32(pixels[p + right]) - upper)
            lower += fx[i] * (np.float32(pixels[p + below + right]) - lower)
            row[np.uintp(3 * i + channel)] = upper + fy[i] * (lower - upper)


@njit(error_model="numpy")
def _finish(shift, row):
    """Scale ``row`` from [0, 255] to [0, 1], add ``shift`` and clip, in place."""
    for i in range(len(row)):
        value = row[i] / np.float32(255.0) + shift[i]
        row[i] = max(np.float32(0.0), min(value, np.float32(1.0)))


@njit(_SIGNATURE, nogil=True, cache=True, error_model="numpy")
def warp_images(images, indices, matrices, shifts, out):
    """Do what ``warp.warp_batch`` says, unchecked.

    The value returned means nothing: were the bytes read ahead not used, the compiler would not read them.
    """
    height, width, target = images.shape[1], images.shape[2], out.shape[2]
    left, top = np.empty(target, np.int32), np.empty(target, np.int32)
    fx, fy = np.empty(target, np.float32), np.empty(target, np.float32)
    positions = np.empty(target, np.float64)
    shift = np.empty((target, 3), np.float32)
    unused = np.uint64(0)
    for b in range(len(indices)):
        pixels = images[indices[b]].reshape(-1)
        unused += _read_ahead(pixels, height, matrices[b], target)
        shift[:] = shifts[b]
        for k in range(2):
            (xi, xj, x0), (yi, yj, y0) = matrices[b, k]
            for j in range(target):
                _locate(x0 + xj * j, xi, width, positions, left, fx)
                _locate(y0 + yj * j, yi, height, positions, top, fy)
                row = out[b, k, j].reshape(-1)
                _interpolate(pixels, width, left, top, fx, fy, row)
                _finish(shift.reshape(-1), row)
    return unused
