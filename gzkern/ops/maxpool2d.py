"""Max-pool by itself, for study; the network's pools are part of its convolutions."""

from __future__ import annotations

from ..autograd.tape import Tape, Variable


def maxpool2d(tape: Tape, x: Variable) -> Variable:
    """Rectified x (C, H, W, N) to (C, ⌈H/2⌉, ⌈W/2⌉, N)."""
    op = tape.device.operations.maxpool2d
    _, H, W, _ = x.value.shape
    y, code = op.forward(x.value)
    return tape.record(y, (x,), lambda gradient: (op.backward(gradient, code, H, W),))
