"""The 16 viewpoints of an image: patches of its two crops, mirrored and turned (paper, viewpoint extraction).

view = 8·crop + 4·flip + quarter; its patch is ``rot90(crop or mirrored crop, quarter)[:S, :S]``, so the galaxy's
centre lies near the same corner of every patch. Out comes (3, S, S, 16·B) with n = view·B + b.
"""

from __future__ import annotations

import numpy as np

from ..core import arguments
from ..core.shapes import VIEWS


def forward(crops: np.ndarray, extent: int, *, precision: str = "fp32") -> np.ndarray:
    """Gather the patches of ``extent``² pixels.

    Args:
        crops: (B, 2, T, T, 3), any float dtype in [0, 1], or uint8, which is scaled by 1/255 to float32.
        extent: side S of a patch, at most T.
        precision: "fp32".

    Returns:
        (3, S, S, 16·B).
    """
    arguments.only_fp32("viewpoints", precision)
    uint8 = getattr(crops, "dtype", None) == np.uint8
    arguments.host_arrays("viewpoints", {"crops": np.uint8} if uint8 else {}, crops=crops)
    arguments.viewpoints_forward(crops, extent)
    if crops.dtype == np.uint8:
        crops = crops * np.float32(1 / 255)
    if crops.dtype != np.float32:
        return forward_oracle(crops, extent)
    from .jit import viewpoints as jit

    views = np.empty((3, extent, extent, VIEWS, len(crops)), np.float32)
    jit.forward(np.ascontiguousarray(crops), views)
    return views.reshape(3, extent, extent, -1)


def forward_oracle(crops: np.ndarray, extent: int) -> np.ndarray:
    """:func:`forward` by ``numpy.rot90``; any float dtype."""
    planes = crops.transpose(1, 4, 2, 3, 0)  # (2, 3, T, T, B)
    patches = [_turn(planes[view // 8], view)[:, :extent, :extent] for view in range(VIEWS)]
    return np.stack(patches, axis=3).reshape(3, extent, extent, -1)


def backward(gradient: np.ndarray, target: int) -> np.ndarray:
    """Gradient of the crops (B, 2, T, T, 3), T = ``target``: each pixel sums the patches it stands in."""
    arguments.host_arrays("viewpoints", gradient=gradient)
    arguments.viewpoints_backward(gradient, target)
    _, extent, _, N = gradient.shape
    views = gradient.reshape(3, extent, extent, VIEWS, N // VIEWS)
    planes = np.zeros((2, 3, target, target, N // VIEWS), gradient.dtype)
    for view in range(VIEWS):
        _turn(planes[view // 8], view)[:, :extent, :extent] += views[:, :, :, view]
    return np.ascontiguousarray(planes.transpose(4, 0, 2, 3, 1))


def _turn(crop: np.ndarray, view: int) -> np.ndarray:
    """A view, in NumPy's sense, of one crop (3, T, T, B) as the viewpoint sees it."""
    mirrored = crop[:, :, ::-1] if view % 8 >= 4 else crop
    return np.rot90(mirrored, view % 4, axes=(1, 2))
