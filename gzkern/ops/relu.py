"""Rectifier."""

from __future__ import annotations

from ..autograd.tape import Tape, Variable


def relu(tape: Tape, x: Variable) -> Variable:
    """max(x, 0), any shape; NaN passes through."""
    op = tape.device.operations.relu
    y = op.forward(x.value)
    return tape.record(y, (x,), lambda gradient: (op.backward(gradient, y),))
