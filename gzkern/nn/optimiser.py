"""Nesterov momentum over a dictionary of parameters, and where a run of updates stands."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..core.fused_update import FusedUpdate
from ..device import Device


class Nesterov:
    """Weights and their velocities, updated in place; ``velocity`` starts at 0.

    What an update depends on lies on the device, so that a captured step finds it there: the number of the step, the
    rate, the sum of the losses. The loss of every step is looked at there, too: from the first one that is not finite
    nothing is updated any more, and ``bad_step`` tells its number.

    Attributes:
        weights: by name.
        velocity: by name, of the shapes of the weights.
        step: (1,) int64, the number of the next update.
        rate: (1,), of the weights' dtype.
        total: (1,) float64, the sum of the losses since :meth:`take_total`.
        first_bad: (1,) int64, −1 while every loss was finite.
    """

    def __init__(self, device: Device, weights: dict[str, Any], momentum: float):
        self._device = device
        self._momentum = momentum
        self.weights = weights
        self.velocity = {name: device.asarray(np.zeros(w.shape, w.dtype)) for name, w in weights.items()}
        self.step = device.asarray(np.zeros(1, np.int64))
        self.rate = device.asarray(np.zeros(1, next(iter(weights.values())).dtype))
        self.total = device.asarray(np.zeros(1, np.float64))
        self.first_bad = device.asarray(np.full(1, -1, np.int64))
        self._written_rate = 0.0

    def at(self, device: Device) -> Nesterov:
        """This optimiser as a step on ``device`` sees it, which may capture the launches for its own device."""
        seen = copy.copy(self)
        seen._device = device
        seen.weights = {name: device.external(array, name) for name, array in self.weights.items()}
        seen.velocity = {name: device.external(array, f"velocity of {name}") for name, array in self.velocity.items()}
        for name in ("step", "rate", "total", "first_bad"):
            setattr(seen, name, device.external(getattr(self, name), name))
        return seen

    def reset(self) -> None:
        """Velocity back to 0, as where the warm-up ends (the original's two training functions)."""
        for array in self.velocity.values():
            self._device.write(array, np.zeros(array.shape, array.dtype))

    def start(self, step: int) -> None:
        """Number the next update."""
        self._device.write(self.step, np.full(1, step))

    def set_rate(self, rate: float) -> None:
        """The rate from the next update on; written where it differs from the last."""
        if rate != self._written_rate:
            self._device.write(self.rate, np.full(1, rate))
            self._written_rate = rate

    def updates(self, side_stream: bool) -> dict[str, FusedUpdate]:
        """Build the :class:`FusedUpdate` of every weight, for layers that update it in their backward pass."""
        return {
            name: FusedUpdate(velocity, self.rate, self._momentum, self.first_bad, side_stream)
            for name, velocity in self.velocity.items()
        }

    def watch(self, loss: Any) -> None:
        """Look at the loss of this step, before anything is updated by it."""
        self._device.operations.nan_guard.check(loss, self.step, self.first_bad)

    def finish(self, loss: Any, gradients: Mapping[str, Any]) -> None:
        """Move every parameter that has a gradient along it, unless a loss was not finite, and count the step."""
        arrays = [(self.weights[n], self.velocity[n], g) for n, g in gradients.items() if g is not None]
        self._device.operations.nesterov.update_all(arrays, self.rate, self._momentum, self.first_bad)
        self._device.operations.step_counter.advance(loss, self.total, self.step)

    def take_total(self) -> float:
        """The sum of the losses since this was last called; waits for the device."""
        total = float(self._device.asnumpy(self.total)[0])
        self._device.write(self.total, np.zeros(1))
        return total

    def bad_step(self) -> int | None:
        """The first step whose loss was not finite, or None; waits for the device."""
        step = int(self._device.asnumpy(self.first_bad)[0])
        return step if step >= 0 else None

    def state(self) -> dict[str, np.ndarray]:
        """The velocities as NumPy arrays, in run-time order."""
        return {name: self._device.asnumpy(array) for name, array in self.velocity.items()}

    def load_state(self, velocity: Mapping[str, np.ndarray]) -> None:
        """Take velocities in run-time order."""
        for name, array in velocity.items():
            self._device.write(self.velocity[name], array)
