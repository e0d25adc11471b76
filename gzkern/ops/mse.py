"""The loss."""

from __future__ import annotations

from typing import Any

from ..autograd.tape import Tape, Variable


def mse(tape: Tape, p: Variable, targets: Any) -> Variable:
    """Scalar: the mean of (p − targets)² over (A, B)."""
    op = tape.device.operations.mse
    loss = op.forward(p.value, targets)
    return tape.record(loss, (p,), lambda gradient: (op.backward(gradient, p.value, targets),))
