"""Arguments of a convolution's kernels: extents and epilogue."""

from __future__ import annotations

import numpy as np

from ...core import arguments
from ...core.shapes import Conv2dSizes
from ...runtime.kernel import extents

EPILOGUES = {name: np.uint32(number) for number, name in enumerate(arguments.EPILOGUES)}
"""The numbers of the epilogues, as in conv2d/epilogue.cuh."""


def extents_of(sizes: Conv2dSizes) -> tuple[np.uint32, ...]:
    """C, H, W, N, R, S, K."""
    return extents(sizes.C, sizes.H, sizes.W, sizes.N, sizes.R, sizes.S, sizes.K)
