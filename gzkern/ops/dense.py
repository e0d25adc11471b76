"""Dense layer: product, bias and activation, in one operation."""

from __future__ import annotations

from typing import Any

from ..autograd.tape import Tape, Variable


def dense(tape: Tape, x: Variable, weight: Variable, bias: Variable, *, activation: str = "linear") -> Variable:
    """x (I, B), weight (I, O), bias (O,) to (O, B), or (O/2, B) by "maxout"."""
    op = tape.device.dense
    y, code = op.forward(x.value, weight.value, bias.value, activation=activation)

    def backward(gradient: Any) -> tuple[Any, ...]:
        return op.backward(x.value, weight.value, y, code, gradient, activation=activation, data=x.needs_gradient)

    return tape.record(y, (x, weight, bias), backward)
