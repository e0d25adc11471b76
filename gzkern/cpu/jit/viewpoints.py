"""The viewpoint gather, float32; see gzkern.cpu.viewpoints for the order of the views."""
# mypy: disable-error-code="no-untyped-def"

import numpy as np
from numba import prange

from . import compiled


@compiled()
def _source(view, i, j, last):
    """Row and column, in its crop, of pixel (i, j) of a view; ``last`` is the crop's last index."""
    quarter = view % 4
    if quarter == 0:
        row, column = i, j
    elif quarter == 1:
        row, column = j, last - i
    elif quarter == 2:
        row, column = last - i, last - j
    else:
        row, column = last - j, i
    return row, last - column if view % 8 >= 4 else column


@compiled(parallel=True)
def forward(crops, views):
    """views (3, S, S, 16, B) from crops (B, 2, T, T, 3)."""
    B, _, T, _, _ = crops.shape
    S = views.shape[1]
    planes = np.empty((2, T, T, 3, B), np.float32)  # B innermost, so that the gather copies runs
    for crop_row in prange(2 * T):
        crop, y = crop_row // T, crop_row % T
        for x in range(T):
            for b in range(B):
                for c in range(3):
                    planes[crop, y, x, c, b] = crops[b, crop, y, x, c]
    for patch_row in prange(S):
        i = np.int64(patch_row)  # Numba counts prange unsigned, and unsigned − signed is a float
        for c in range(3):
            for j in range(S):
                for view in range(16):
                    row, column = _source(view, i, j, T - 1)
                    views[c, i, j, view] = planes[view // 8, row, column, c]
