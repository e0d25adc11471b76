"""Dropout by the mask of :class:`gzkern.mask.Mask`, the same elements on every device; ``kernels/dropout.cu``."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..mask import Mask
from .launch import Kernel, backend_of, by_fours, ceil_div, choose, elementwise, number

APPLY = {
    "naive": Kernel("dropout", "dropout_naive"),
    "vectorised": Kernel("dropout", "dropout_vectorised"),
}


def forward(x: Any, mask: Mask) -> Any:
    """x of any shape, float32, with the elements of the mask dropped and the rest rescaled."""
    return apply("x", x, mask)


def backward(gradient: Any, mask: Mask) -> Any:
    """The gradient by the same multiplier."""
    return apply("gradient", gradient, mask)


def apply(name: str, array: Any, mask: Mask, version: str | None = None) -> Any:
    """Both passes, on the array of that name: by "naive", or by "vectorised" where 4 divides its size."""
    backend = backend_of("dropout", **{name: array})
    kernel = choose("dropout", APPLY, by_fours("dropout", version, "elements", array.size, "naive"))
    product = backend.empty(array.shape)
    words = *mask.key, np.uint32(mask.layer), number(backend, mask.step, np.int64), mask.threshold
    kernel(backend, elementwise(ceil_div(array.size, 4)), array, product, np.uint32(array.size), *words, mask.scale)
    return product
