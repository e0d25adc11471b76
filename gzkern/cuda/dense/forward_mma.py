"""The product of a dense layer on tensor cores, in tf32, fp32x3 and bf16; ``kernels/dense/forward_mma.cu``.

Bfloat16 arrays are uint16 in Python: their bits.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ...core import arguments as check
from ...errors import InputError
from ...runtime.arrays import backend_of
from ...runtime.kernel import extents, kernel
from .activation import empty, four_columns, require_activation
from .mma import LONG, images_of_a_block, kernels, lines_of_sums, plan, require

KERNELS = kernels("dense/forward_mma", ("tf32", "fp32x3", "bf16"))

ACTIVATE = {
    "relu": kernel("dense/forward_mma", "relu"),
    "maxout": kernel("dense/forward_mma", "maxout"),
}
"""To bfloat16."""

_STAGES = {"tf32": 4, "fp32x3": 4, "bf16": 3}


def product(x: Any, weight: Any, precision: str = "tf32", images: int | None = None) -> Any:
    """Partial sums of weightᵀ·x as (parts, B, O), float32.

    Args:
        x: (I, B); by bf16 uint16, the bits of bfloat16, and so is ``weight``.
        weight: (I, O).
        precision: "tf32", "fp32x3" or "bf16".
        images: of a block, 64 or 128; None: by their number.

    Raises:
        InputError: arrays that do not fit each other, or sizes that the kernels do not take.
    """
    backend = backend_of("dense", np.uint16 if precision == "bf16" else np.float32, x=x, weight=weight)
    check.shape("dense", "x", x, (None, None))
    check.shape("dense", "weight", weight, (x.shape[0], None))
    (inputs, B), outputs = x.shape, weight.shape[1]
    require(inputs, outputs, B, precision, KERNELS)
    images = images or images_of_a_block(B)
    here = plan(inputs, (outputs, B), (LONG, images), backend.limits)
    partial = empty(backend, "the partial sums", (here.parts, B, outputs))
    stage = sum(lines_of_sums(extent, x.dtype.itemsize) for extent in (LONG, images))
    sizes = extents(inputs, outputs, B, here.part)
    KERNELS[precision][images](backend, here.launch(_STAGES[precision] * stage), x, weight, partial, *sizes)
    return partial


def activate(partial: Any, bias: Any, activation: str) -> Any:
    """y as bfloat16 from the partial sums (parts, B, O): (O, B) by "relu", (O/2, B) by "maxout".

    Raises:
        InputError: arrays that do not fit each other; B not a multiple of 4; another activation, an odd O by "maxout".
    """
    backend = backend_of("dense", partial=partial, bias=bias)
    check.shape("dense", "bias", bias, (None,))
    check.shape("dense", "partial", partial, (None, None, bias.shape[0]))
    require_activation(activation, bias.shape[0])
    if activation not in ACTIVATE:
        raise InputError(f"dense: activation is {activation!r}, expected relu or maxout: a linear y stays float32")
    parts, B, outputs = partial.shape
    if B % 4:
        raise InputError(f"dense: partial has {B} images, expected a multiple of 4, stored at once as bfloat16")
    y = backend.empty((outputs // 2 if activation == "maxout" else outputs, B), np.uint16)
    ACTIVATE[activation](backend, four_columns(y.shape, parts), partial, bias, y, *extents(outputs, B, parts))
    return y
