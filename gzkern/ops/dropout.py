"""Dropout of the inputs of a dense layer."""

from __future__ import annotations

from ..autograd.tape import Tape, Variable
from ..core.dropout_mask import DropoutMask


def dropout(tape: Tape, x: Variable, mask: DropoutMask) -> Variable:
    """x of any shape with the elements of the mask dropped and the rest rescaled."""
    op = tape.device.operations.dropout
    return tape.record(op.forward(x.value, mask), (x,), lambda gradient: (op.backward(gradient, mask),))
