"""The product of a dense layer on tensor cores, in tf32, fp32x3 and bf16; ``kernels/dense/forward_mma.cu``.

Bfloat16 arrays are uint16 in Python: their bits.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ...runtime.backend import Backend
from ...runtime.kernel import extents, kernel
from .launches import empty, four_columns
from .mma import LONG, images_of_a_block, kernels, lines_of_sums, plan

KERNELS = kernels("dense/forward_mma", ("tf32", "fp32x3", "bf16"))

ACTIVATE = {
    "relu": kernel("dense/forward_mma", "relu"),
    "maxout": kernel("dense/forward_mma", "maxout"),
}
"""To bfloat16."""

_STAGES = {"tf32": 4, "fp32x3": 4, "bf16": 3}


def product(backend: Backend, x: Any, weight: Any, precision: str, images: int | None = None) -> Any:
    """Partial sums of weightᵀ·x as (parts, B, O), float32.

    Args:
        backend: of the arrays.
        x: (I, B); by bf16 uint16, the bits of bfloat16, and so is ``weight``.
        weight: (I, O).
        precision: "tf32", "fp32x3" or "bf16".
        images: of a block, 64 or 128; None: by their number.
    """
    (inputs, B), outputs = x.shape, weight.shape[1]
    images = images or images_of_a_block(B)
    here = plan(inputs, (outputs, B), (LONG, images), backend.limits)
    partial = empty(backend, "the partial sums", (here.parts, B, outputs))
    stage = sum(lines_of_sums(extent, x.dtype.itemsize) for extent in (LONG, images))
    sizes = extents(inputs, outputs, B, here.part)
    KERNELS[precision][images](backend, here.launch(_STAGES[precision] * stage), x, weight, partial, *sizes)
    return partial


def activate(backend: Backend, partial: Any, bias: Any, activation: str) -> Any:
    """y as bfloat16 from the partial sums (parts, B, O), 4 dividing B: (O, B) by "relu", (O/2, B) by "maxout"."""
    parts, B, outputs = partial.shape
    y = backend.empty((outputs // 2 if activation == "maxout" else outputs, B), np.uint16)
    ACTIVATE[activation](backend, four_columns(y.shape, parts), partial, bias, y, *extents(outputs, B, parts))
    return y
