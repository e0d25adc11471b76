"""Raw answers to probabilities: the constraint layer, and the clip that stands in for it at the start."""

from __future__ import annotations

from ..autograd.tape import Tape, Variable
from ..decision_trees.tree import DecisionTree


def constraints(tape: Tape, z: Variable, tree: DecisionTree) -> Variable:
    """Raw answers (A, B) to probabilities (A, B) that obey the tree."""
    op = tape.device.operations.constraints
    p, conditional = op.forward(z.value, tree)
    return tape.record(p, (z,), lambda gradient: (op.backward(gradient, z.value, p, conditional, tree),))


def clip(tape: Tape, z: Variable) -> Variable:
    """Raw answers clipped to [0, 1]: the output of the warm-up."""
    op = tape.device.operations.constraints
    return tape.record(op.clip_forward(z.value), (z,), lambda gradient: (op.clip_backward(gradient, z.value),))
