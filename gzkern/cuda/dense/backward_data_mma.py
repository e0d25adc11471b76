"""The gradient of a dense layer's input in tf32 and fp32x3; ``kernels/dense/backward_data_mma.cu``."""

from __future__ import annotations

from typing import Any

from ...runtime.backend import Backend
from ...runtime.kernel import extents
from .launches import Gradient, empty
from .mma import LONG, images_of_a_block, kernels, lines_of_sums, lines_of_terms, plan

KERNELS = kernels("dense/backward_data_mma", ("tf32", "fp32x3"))

_STAGES = 4  # of the weights; the gradient has 2


def product(backend: Backend, weight: Any, layer: Gradient, precision: str, images: int | None = None) -> Any:
    """Partial sums of dx, as (parts, B, I).

    Args:
        backend: of the arrays.
        weight: (I, O).
        layer: the gradient of y, and what is saved.
        precision: "tf32" or "fp32x3".
        images: of a block, 64 or 128; None: by their number.
    """
    (inputs, outputs), B = weight.shape, layer.images
    images = images or images_of_a_block(B)
    here = plan(outputs, (inputs, B), (LONG, images), backend.limits)
    partial = empty(backend, "the partial sums", (here.parts, B, inputs))
    shared = _STAGES * lines_of_terms(LONG) + 2 * lines_of_sums(images)
    arrays = weight, *layer.sources, partial
    sizes = *extents(inputs, outputs, B, here.part), *layer.after
    KERNELS[precision][images](backend, here.launch(shared), *arrays, *sizes)
    return partial
