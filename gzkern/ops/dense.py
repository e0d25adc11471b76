"""Dense layer: product, bias, activation and dropout, in one operation."""

from __future__ import annotations

from typing import Any

from ..autograd.tape import Tape, Variable
from ..core.dropout_mask import DropoutMask


def dense(
    tape: Tape,
    x: Variable,
    weight: Variable,
    bias: Variable,
    *,
    activation: str = "linear",
    drop: DropoutMask | None = None,
) -> Variable:
    """x (I, B), weight (I, O), bias (O,) to (O, B), or (O/2, B) by "maxout", with elements dropped by a mask.

    A weight with an ``update`` moves in the backward pass, where the device can, and gets no gradient.
    """
    op = tape.device.operations.dense
    precision = tape.precision
    y, code = op.forward(x.value, weight.value, bias.value, activation=activation, drop=drop, precision=precision)

    def backward(gradient: Any) -> tuple[Any, ...]:
        return op.backward(
            x.value,
            weight.value,
            y,
            code,
            gradient,
            activation=activation,
            data=x.needs_gradient,
            drop=drop,
            update=weight.update,
            precision=precision,
        )

    return tape.record(y, (x, weight, bias), backward)
