"""Extents of arrays, and counts of multiply-adds: the one place where each is derived."""

from __future__ import annotations

from dataclasses import dataclass

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


@dataclass(frozen=True)
class Conv2dSizes:
    """The extents of a valid convolution with stride 1."""

    C: int
    H: int
    W: int
    N: int
    R: int
    S: int
    K: int

    @property
    def P(self) -> int:
        """Rows of the sum."""
        return conv_extent(self.H, self.R)

    @property
    def Q(self) -> int:
        """Columns of the sum."""
        return conv_extent(self.W, self.S)

    @property
    def x(self) -> tuple[int, int, int, int]:
        """Shape of the input."""
        return self.C, self.H, self.W, self.N

    @property
    def weight(self) -> tuple[int, int, int, int]:
        """Shape of the weights."""
        return self.C, self.R, self.S, self.K

    def y(self, epilogue: str) -> tuple[int, int, int, int]:
        """Shape of the output by epilogue: "plain", "relu" or "pool"."""
        if epilogue == "pool":
            return self.K, pool_extent(self.P), pool_extent(self.Q), self.N
        return self.K, self.P, self.Q, self.N


FORWARD, BACKWARD_DATA, BACKWARD_WEIGHTS, BACKWARD_BIAS = (
    "forward",
    "backward_data",
    "backward_weights",
    "backward_bias",
)
"""The passes of a layer with weights."""
