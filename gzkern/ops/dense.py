"""Dense layer."""

from __future__ import annotations

from typing import Any

from ..autograd.tape import Tape, Variable


def dense(tape: Tape, x: Variable, weight: Variable, bias: Variable) -> Variable:
    """x (I, B), weight (I, O), bias (O,) to (O, B)."""
    op = tape.device.dense

    def backward(gradient: Any) -> tuple[Any, ...]:
        return op.backward(x.value, weight.value, gradient, data=x.needs_gradient)

    return tape.record(op.forward(x.value, weight.value, bias.value), (x, weight, bias), backward)
