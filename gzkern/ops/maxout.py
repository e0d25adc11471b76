"""Maxout over adjacent pairs of rows, by itself, for study; the network's is part of its dense layers."""

from __future__ import annotations

from ..autograd.tape import Tape, Variable


def maxout(tape: Tape, x: Variable) -> Variable:
    """(2U, B) to (U, B)."""
    op = tape.device.operations.maxout
    y, code = op.forward(x.value)
    return tape.record(y, (x,), lambda gradient: (op.backward(gradient, code),))
