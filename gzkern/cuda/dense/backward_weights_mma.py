"""The gradient of a dense layer's weights in tf32 and fp32x3; ``kernels/dense/backward_weights_mma.cu``."""

from __future__ import annotations

from typing import Any

from ...runtime.kernel import extents, kernel
from .activation import after, empty, outputs_of, require_gradient, sources
from .mma import LONG, lines_of_sums, lines_of_terms, plan, require

KERNELS = {
    "tf32": kernel("dense/backward_weights_mma", "tf32"),
    "fp32x3": kernel("dense/backward_weights_mma", "fp32x3"),
}

_STAGES = 4  # of the inputs; the gradient has 2
_INPUTS = 128  # of a block


def product(
    x: Any,
    gradient: Any,
    saved: Any = None,
    activation: str = "linear",
    scale: float = 1.0,
    precision: str = "tf32",
) -> Any:
    """Partial sums of dweight, as (parts, I, O); one part where the result has blocks enough, or B is at most 128.

    Args:
        x: (I, B).
        gradient: of y, (O, B), by "maxout" (O/2, B).
        saved: see ``dense_common``; of its shape.
        activation: "linear", "relu" or "maxout".
        scale: see ``dense_common``.
        precision: "tf32" or "fp32x3".

    Raises:
        InputError: arrays that do not fit each other, or sizes that the kernels do not take.
    """
    backend = require_gradient(gradient, saved, activation, x=x)
    (inputs, B), outputs = x.shape, outputs_of(gradient, activation)
    require(inputs, outputs, B, precision, KERNELS)
    here = plan(B, (outputs, inputs), (LONG, _INPUTS), backend.limits)
    partial = empty(backend, "the gradient of weight", (here.parts, inputs, outputs))
    shared = _STAGES * lines_of_terms(_INPUTS) + 2 * lines_of_sums(LONG)
    arrays = x, *sources(gradient, saved), partial
    sizes = *extents(inputs, outputs, B, here.part), *after(activation, scale)
    KERNELS[precision](backend, here.launch(shared), *arrays, *sizes)
    return partial
