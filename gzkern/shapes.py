"""Sizes, operation counts: the one place where an extent or a FLOP count is derived."""

from __future__ import annotations

VIEWS = 16
"""Viewpoints of one image: 2 crops × 2 mirrorings × 4 quarter turns (paper, viewpoint extraction)."""


def patch_extent(target: int) -> int:
    """Side of a viewpoint's patch in a crop of ``target`` pixels: 45 of 69, as published."""
    return round(target * 45 / 69)


def conv_extent(extent: int, filter_size: int) -> int:
    """Output extent of a valid convolution with stride 1."""
    return extent - filter_size + 1


def pool_extent(extent: int) -> int:
    """Output extent of a 2×2 max-pool with stride 2; a window over the border counts (ceil rule)."""
    return (extent + 1) // 2


def conv2d_macs(C: int, R: int, S: int, K: int, P: int, Q: int, N: int) -> int:
    """Multiply-adds of one pass (forward, backward-data or backward-weights) of a convolution."""
    return C * R * S * K * P * Q * N


def dense_macs(inputs: int, outputs: int, batch: int) -> int:
    """Multiply-adds of one pass of a dense layer."""
    return inputs * outputs * batch
