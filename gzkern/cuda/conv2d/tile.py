"""Launches of the kernels that share conv2d/tile.cuh: blocks of 32 channels × 32 images × two windows, and stages."""

from __future__ import annotations

from ...core.shapes import Conv2dSizes
from ...runtime.kernel import Geometry, ceil_div

THREADS = 128
MOST_SHARED = 99 * 1024
"""Bytes a block that every GPU has."""

_CHANNELS, _IMAGES, _WINDOWS = 32, 32, 2
_SHARED = 56 * 1024  # four blocks of a large GPU at once


def tiles(sizes: Conv2dSizes, windows: tuple[int, int], channels: int, staged: int) -> Geometry:
    """The launch over so many rows and columns of windows and channels, ``staged`` channels of a sum at once."""
    blocks = ceil_div(sizes.N, _IMAGES) * windows[0] * ceil_div(windows[1], _WINDOWS) * ceil_div(channels, _CHANNELS)
    return Geometry((blocks,), (THREADS,), staged * stage_bytes(sizes))


def stage_bytes(sizes: Conv2dSizes) -> int:
    """Shared memory for one channel of what is summed over: its patch and its weights."""
    patch = (sizes.R + 1) * (sizes.S + 2 * _WINDOWS - 1)
    return 4 * (patch * _IMAGES + sizes.R * sizes.S * _CHANNELS)


def stage_channels(sizes: Conv2dSizes, total: int, stages: int, multiple: int = 1) -> int:
    """As many channels a stage as leave room for four blocks, but not so many that the last stage is mostly empty."""
    most = max(multiple, _SHARED // (stages * stage_bytes(sizes)))
    choices = range(multiple, most + 1, multiple)
    return min(choices, key=lambda channels: (ceil_div(total, channels) * channels, -channels))
