"""Cases of kernels/maxpool2d.cu."""

from functools import partial

import numpy as np
from harness import Case, equals

from gzkern.core.shapes import pool_extent
from gzkern.cpu import maxpool2d as oracle
from gzkern.cuda import maxpool2d

QUICK = [(2, 3, 5, 4), (2, 5, 3, 7)]  # C, H, W, N
SHAPES = [*QUICK, (1, 1, 1, 1), (3, 4, 6, 8), (1, 1, 2, 12), (2, 2, 1, 3), (5, 7, 9, 68), (2, 3, 3, 0)]


def values(shape, seed):
    """Few different values, so that windows tie; zeros of both signs, infinities, NaN; windows without a value > 0."""
    rng = np.random.default_rng(seed)
    choices = np.array([-np.inf, -2, -1, -1, -0.0, 0, 0.5, 0.5, 1, 1, np.inf, np.nan], np.float32)
    return choices[rng.integers(0, len(choices), shape)]


def codes(shape, seed):
    """All masks, also positions beyond the border, which do not exist."""
    return np.random.default_rng(seed).integers(0, 16, shape, np.uint8)


def cases():
    for shape in SHAPES:
        C, H, W, N = shape
        pooled = (C, pool_extent(H), pool_extent(W), N)
        for version in ("naive",) if N % 4 else ("naive", "vectorised"):
            how = {"label": "x".join(map(str, shape)), "quick": shape in QUICK}
            yield Case(
                kernel=f"maxpool2d_forward_{version}",
                inputs=lambda shape=shape: {"x": values(shape, 0)},
                call=partial(maxpool2d.pool, version=version),
                check=equals(oracle.forward),
                **how,
            )
            yield Case(
                kernel=f"maxpool2d_backward_{version}",
                inputs=lambda pooled=pooled: {"gradient": values(pooled, 1), "code": codes(pooled, 2)},
                call=partial(maxpool2d.pool_backward, H=H, W=W, version=version),
                check=equals(partial(oracle.backward, H=H, W=W)),
                **how,
            )
