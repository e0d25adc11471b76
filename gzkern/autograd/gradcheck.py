"""Proof of a backward pass by finite differences in float64, along random directions."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ..device import Device
from ..errors import GzkernError
from .tape import Tape, Variable


def check_gradients(
    operation: Callable[..., Variable],
    inputs: Sequence[np.ndarray],
    device: Device,
    *,
    step: float = 1e-6,
    tolerance: float = 1e-7,
    seed: int = 0,
) -> None:
    """Compare the tape's gradient of each input with a central difference in a random direction.

    Args:
        operation: ``operation(tape, *variables)``, deterministic, returns one variable.
        inputs: float64 arrays, away from kinks (ties, zeros of a rectifier).
        device: where the operation runs.
        step: length of the difference.
        tolerance: allowed error, relative to 1 + the slope.
        seed: of the directions and of the output's cotangent.

    Raises:
        GzkernError: a gradient is off, an input lies at a kink, or the comparison met NaN.
    """
    rng = np.random.default_rng(seed)

    def evaluate(arrays: Sequence[np.ndarray]) -> tuple[Tape, list[Variable], Variable]:
        tape = Tape(device)
        variables = [Variable(a, needs_gradient=True) for a in arrays]
        return tape, variables, operation(tape, *variables)

    tape, variables, output = evaluate(inputs)
    cotangent = rng.standard_normal(output.value.shape)

    def project(arrays: Sequence[np.ndarray]) -> float:
        return float(np.sum(evaluate(arrays)[2].value * cotangent))

    centre = float(np.sum(output.value * cotangent))
    tape.backward(output, cotangent)
    for number, (array, variable) in enumerate(zip(inputs, variables, strict=True)):
        if variable.gradient is None or variable.gradient.shape != array.shape:
            raise GzkernError(f"input {number}: no gradient of shape {array.shape}")
        direction = rng.standard_normal(array.shape)

        def moved(by: float, number: int = number, direction: np.ndarray = direction) -> float:
            arrays = [a + by * direction if i == number else a for i, a in enumerate(inputs)]
            return project(arrays)

        above, below = moved(step), moved(-step)
        slope = (above - below) / (2 * step)
        one_sided = abs((above - centre) - (centre - below)) / step
        expected = float(np.sum(variable.gradient * direction))
        if not one_sided <= 1e-3 * (1 + abs(slope)):
            raise GzkernError(f"input {number}: the slopes on both sides differ by {one_sided:.1e}, a kink")
        if not abs(slope - expected) <= tolerance * (1 + abs(slope)):
            raise GzkernError(f"input {number}: slope {slope:.9g} by differences, {expected:.9g} by the tape")
