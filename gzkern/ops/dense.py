"""Dense layer: product, bias, activation and dropout, in one operation."""

from __future__ import annotations

from typing import Any

from ..autograd.tape import Tape, Variable
from ..mask import Mask


def dense(
    tape: Tape,
    x: Variable,
    weight: Variable,
    bias: Variable,
    *,
    activation: str = "linear",
    drop: Mask | None = None,
) -> Variable:
    """x (I, B), weight (I, O), bias (O,) to (O, B), or (O/2, B) by "maxout", with elements dropped by a mask.

    A weight with an ``update`` moves in the backward pass, where the device can, and gets no gradient.
    """
    op = tape.device.dense
    how = {"activation": activation, "drop": drop, "precision": tape.precision}
    y, code = op.forward(x.value, weight.value, bias.value, **how)

    def backward(gradient: Any) -> tuple[Any, ...]:
        given = {"data": x.needs_gradient, "update": weight.update}
        return op.backward(x.value, weight.value, y, code, gradient, **how, **given)

    return tape.record(y, (x, weight, bias), backward)
