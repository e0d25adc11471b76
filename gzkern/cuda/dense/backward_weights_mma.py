"""The gradient of a dense layer's weights in tf32 and fp32x3; ``kernels/dense/backward_weights_mma.cu``."""

from __future__ import annotations

from typing import Any

from ...runtime.backend import Backend
from ...runtime.kernel import extents, kernel
from .launches import Gradient, empty
from .mma import LONG, lines_of_sums, lines_of_terms, plan

KERNELS = {
    "tf32": kernel("dense/backward_weights_mma", "tf32"),
    "fp32x3": kernel("dense/backward_weights_mma", "fp32x3"),
}

_STAGES = 4  # of the inputs; the gradient has 2
_INPUTS = 128  # of a block


def product(backend: Backend, x: Any, layer: Gradient, precision: str) -> Any:
    """Partial sums of dweight, as (parts, I, O); one part where the result has blocks enough, or B is at most 128.

    Args:
        backend: of the arrays.
        x: (I, B).
        layer: the gradient of y, and what is saved.
        precision: "tf32" or "fp32x3".
    """
    (inputs, B), outputs = x.shape, layer.outputs
    here = plan(B, (outputs, inputs), (LONG, _INPUTS), backend.limits)
    partial = empty(backend, "the gradient of weight", (here.parts, inputs, outputs))
    shared = _STAGES * lines_of_terms(_INPUTS) + 2 * lines_of_sums(LONG)
    arrays = x, *layer.sources, partial
    sizes = *extents(inputs, outputs, B, here.part), *layer.after
    KERNELS[precision](backend, here.launch(shared), *arrays, *sizes)
    return partial
