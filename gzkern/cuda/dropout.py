"""Dropout by the mask of ``core.dropout_mask``, the same elements on every device; ``kernels/dropout.cu``."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..core.dropout_mask import DropoutMask
from ..runtime.arrays import backend_of, number
from ..runtime.kernel import by_fours, ceil_div, choose, elementwise, kernel

APPLY = {
    "naive": kernel("dropout", "naive"),
    "vectorised": kernel("dropout", "vectorised"),
}


def forward(x: Any, mask: DropoutMask) -> Any:
    """x of any shape, float32, with the elements of the mask dropped and the rest rescaled."""
    return apply("x", x, mask)


def backward(gradient: Any, mask: DropoutMask) -> Any:
    """The gradient by the same multiplier."""
    return apply("gradient", gradient, mask)


def apply(name: str, array: Any, mask: DropoutMask, version: str | None = None) -> Any:
    """Both passes, on the array of that name: by "naive", or by "vectorised" where 4 divides its size."""
    backend = backend_of("dropout", **{name: array})
    kernel = choose("dropout", APPLY, by_fours("dropout", version, "elements", array.size, "naive"))
    product = backend.empty(array.shape)
    words = *mask.key, np.uint32(mask.layer), number(backend, mask.step, np.int64), mask.threshold
    kernel(backend, elementwise(ceil_div(array.size, 4)), array, product, np.uint32(array.size), *words, mask.scale)
    return product
