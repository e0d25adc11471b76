"""The gather of an image's 16 viewpoints, and the two reshapes that bring their features together."""

from __future__ import annotations

import math

from ..autograd.tape import Tape, Variable
from ..core.shapes import VIEWS


def viewpoints(tape: Tape, crops: Variable, extent: int) -> Variable:
    """Crops (B, 2, T, T, 3) to patches (3, S, S, 16·B), S = ``extent``; in bfloat16 on a tape of that precision."""
    op = tape.device.operations.viewpoints
    target = crops.value.shape[2]
    patches = op.forward(crops.value, extent, precision=tape.precision)
    return tape.record(patches, (crops,), lambda gradient: (op.backward(gradient, target),))


def flatten(tape: Tape, x: Variable) -> Variable:
    """(C, P, Q, N) to (C·P·Q, N)."""
    shape = x.value.shape
    return tape.record(
        x.value.reshape(math.prod(shape[:-1]), shape[-1]), (x,), lambda gradient: (gradient.reshape(shape),)
    )


def merge_views(tape: Tape, x: Variable) -> Variable:
    """Features (…, 16·B) to (features · 16, B), feature-major; in this layout no value moves."""
    shape = x.value.shape
    merged = x.value.reshape(math.prod(shape[:-1]) * VIEWS, shape[-1] // VIEWS)
    return tape.record(merged, (x,), lambda gradient: (gradient.reshape(shape),))
