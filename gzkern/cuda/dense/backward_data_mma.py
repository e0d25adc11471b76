"""The gradient of a dense layer's input in tf32 and fp32x3; ``kernels/dense/backward_data_mma.cu``."""

from __future__ import annotations

from typing import Any

from ...runtime.kernel import extents
from .activation import after, empty, require_gradient, sources
from .mma import LONG, images_of_a_block, kernels, lines_of_sums, lines_of_terms, plan, require

KERNELS = kernels("dense/backward_data_mma", ("tf32", "fp32x3"))

_STAGES = 4  # of the weights; the gradient has 2


def product(
    weight: Any,
    gradient: Any,
    saved: Any = None,
    activation: str = "linear",
    scale: float = 1.0,
    precision: str = "tf32",
    images: int | None = None,
) -> Any:
    """Partial sums of dx, as (parts, B, I).

    Args:
        weight: (I, O).
        gradient: of y, (O, B), by "maxout" (O/2, B).
        saved: see ``dense_common``; of its shape.
        activation: "linear", "relu" or "maxout".
        scale: see ``dense_common``.
        precision: "tf32" or "fp32x3".
        images: of a block, 64 or 128; None: by their number.

    Raises:
        InputError: arrays that do not fit each other, or sizes that the kernels do not take.
    """
    backend = require_gradient(gradient, saved, activation, weight=weight)
    (inputs, outputs), B = weight.shape, gradient.shape[1]
    require(inputs, outputs, B, precision, KERNELS)
    images = images or images_of_a_block(B)
    here = plan(outputs, (inputs, B), (LONG, images), backend.limits)
    partial = empty(backend, "the partial sums", (here.parts, B, inputs))
    shared = _STAGES * lines_of_terms(LONG) + 2 * lines_of_sums(images)
    arrays = weight, *sources(gradient, saved), partial
    sizes = *extents(inputs, outputs, B, here.part), *after(activation, scale)
    KERNELS[precision][images](backend, here.launch(shared), *arrays, *sizes)
    return partial
