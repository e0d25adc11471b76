"""Dropout of the inputs of a dense layer."""

from __future__ import annotations

from typing import Any

from ..autograd.tape import Tape, Variable


def dropout(tape: Tape, x: Variable, probability: float, key: Any) -> Variable:
    """x with each element dropped with ``probability`` and the rest rescaled; ``key``: see cpu.dropout.Key."""
    op = tape.device.dropout
    y, multiplier = op.forward(x.value, probability, key)
    return tape.record(y, (x,), lambda gradient: (op.backward(gradient, multiplier),))
