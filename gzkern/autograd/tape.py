"""A tape: operations write down how to go back, ``backward`` walks what they wrote in reverse.

The gradient of a variable is the sum over its uses. It is given up as soon as the walk has passed the operation
that made the variable, so that only the gradients of leaves (parameters, inputs) remain afterwards.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from ..core.fused_update import FusedUpdate
from ..device import Device
from ..errors import GzkernError

Backward = Callable[[Any], Sequence[Any]]
"""From the gradient of an operation's output to those of its inputs; None for an input that needs none."""


class Variable:
    """An array on the tape and, after ``backward``, its gradient.

    A weight with an ``update`` gets none where the operation that uses it moves it in its backward pass.
    """

    __slots__ = ("gradient", "needs_gradient", "update", "value")

    def __init__(self, value: Any, needs_gradient: bool = False, update: FusedUpdate | None = None):
        self.value = value
        self.needs_gradient = needs_gradient
        self.update = update
        self.gradient: Any = None


class Tape:
    """The operations of one forward pass on one device.

    Args:
        device: where the operations run.
        recording: False for prediction: nothing is kept for a backward pass.
        precision: of the products: "fp32", "tf32", "fp32x3", and "bf16" where nothing is kept.
    """

    def __init__(self, device: Device, recording: bool = True, precision: str = "fp32"):
        self.device = device
        self.recording = recording
        self.precision = precision
        self._records: list[tuple[Variable, tuple[Variable, ...], Backward, str]] = []
        self._name = ""

    @contextmanager
    def named(self, name: str) -> Iterator[None]:
        """Give the operations within this name, and their backward passes, where launches are named."""
        outer, self._name = self._name, name
        try:
            with self.device.range(name):
                yield
        finally:
            self._name = outer

    def record(self, value: Any, inputs: Sequence[Variable], backward: Backward) -> Variable:
        """The output variable of an operation; its ``backward`` is kept if any input needs a gradient."""
        needs = self.recording and any(v.needs_gradient for v in inputs)
        output = Variable(value, needs)
        if needs:
            self._records.append((output, tuple(inputs), backward, self._name))
        return output

    def backward(self, output: Variable, gradient: Any) -> None:
        """Fill in the gradients of all leaves that ``output`` depends on; the tape is spent afterwards.

        Raises:
            GzkernError: the output was not recorded on this tape, or the tape is spent.
        """
        if not any(output is recorded for recorded, *_ in self._records):
            raise GzkernError("backward: the output is not on this tape, or its tape has been walked already")
        output.gradient = gradient
        while self._records:
            made, inputs, backward, name = self._records.pop()
            if made.gradient is None:
                continue
            with self.device.range(f"{name} backward"):
                parts = backward(made.gradient)
            for variable, part in zip(inputs, parts, strict=True):
                if part is not None and variable.needs_gradient:
                    variable.gradient = part if variable.gradient is None else variable.gradient + part
            made.gradient = None
