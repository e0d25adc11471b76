"""2×2 max-pool with stride 2 on C,H,W,N arrays; a window over the border counts (ceil rule).

The code byte of a value is the mask of the window's positions (bit 2·row + column) that equal the maximum and
are > 0; the gradient goes to each of them in full, and nowhere where the mask is 0: what comes in is rectified.
"""

from __future__ import annotations

import numpy as np

from ..core import arguments
from ..core.shapes import pool_extent


def forward(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pool (C, H, W, N) of any dtype to y (C, ⌈H/2⌉, ⌈W/2⌉, N) and its uint8 code; NaN passes, with code 0."""
    arguments.host_arrays("maxpool2d", x=x)
    arguments.maxpool2d_forward(x)
    return pooled(x)


def pooled(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """:func:`forward` of an array that was checked."""
    windows = _windows(x)
    y = windows.max(axis=0)
    bits = np.array([1, 2, 4, 8], np.uint8).reshape(4, 1, 1, 1, 1)
    return y, (((windows == y) & (windows > 0)) * bits).sum(axis=0, dtype=np.uint8)


def backward(gradient: np.ndarray, code: np.ndarray, H: int, W: int) -> np.ndarray:
    """The gradient (C, ⌈H/2⌉, ⌈W/2⌉, N) at the positions of its code, as (C, H, W, N)."""
    arguments.host_arrays("maxpool2d", {"code": np.uint8}, gradient=gradient, code=code)
    arguments.maxpool2d_backward(gradient, code, H, W)
    return scatter(gradient, code, H, W)


def scatter(gradient: np.ndarray, code: np.ndarray, H: int, W: int) -> np.ndarray:
    """:func:`backward` of arrays that were checked."""
    C, P, Q, N = gradient.shape
    dx = np.zeros((C, 2 * P, 2 * Q, N), gradient.dtype)
    for corner in range(4):
        dx[:, corner // 2 :: 2, corner % 2 :: 2] = np.where(code & (1 << corner), gradient, 0)
    return dx[:, :H, :W]


def _windows(x: np.ndarray) -> np.ndarray:
    """(4, C, P, Q, N): the positions of each window, −inf beyond the border."""
    C, H, W, N = x.shape
    P, Q = pool_extent(H), pool_extent(W)
    padded = np.full((C, 2 * P, 2 * Q, N), -np.inf, x.dtype)
    padded[:, :H, :W] = x
    return np.stack([padded[:, corner // 2 :: 2, corner % 2 :: 2] for corner in range(4)])
