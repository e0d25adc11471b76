"""Convolution with untied biases, ReLU and max-pool, in one operation."""

from __future__ import annotations

from typing import Any

from ..autograd.tape import Tape, Variable


def conv2d(
    tape: Tape, x: Variable, weight: Variable, bias: Variable, *, activate: bool = True, pool: bool = True
) -> Variable:
    """x (C, H, W, N), weight (C, R, S, K), bias (K, P, Q) to (K, P, Q, N), or pooled (K, ⌈P/2⌉, ⌈Q/2⌉, N)."""
    op = tape.device.operations.conv2d
    y, code = op.forward(x.value, weight.value, bias.value, activate=activate, pool=pool, precision=tape.precision)

    def backward(gradient: Any) -> tuple[Any, ...]:
        return op.backward(
            x.value,
            weight.value,
            y,
            code,
            gradient,
            activate=activate,
            data=x.needs_gradient,
            precision=tape.precision,
        )

    return tape.record(y, (x, weight, bias), backward)
