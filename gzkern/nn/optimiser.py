"""Nesterov momentum over a dictionary of parameters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..device import Device


class Nesterov:
    """Weights and their velocities, updated in place; ``velocity`` starts at 0.

    The loss of every step is looked at where it is, on the device. From the first one that is not finite nothing
    is updated any more, and ``bad_step`` tells its number.
    """

    def __init__(self, device: Device, weights: dict[str, Any], momentum: float):
        self._device = device
        self._weights = weights
        self._momentum = momentum
        self._first_bad = device.asarray(np.full(1, -1, np.int64))
        self.velocity = {name: device.asarray(np.zeros(w.shape, w.dtype)) for name, w in weights.items()}

    def reset(self) -> None:
        """Velocity back to 0, as where the warm-up ends (the original's two training functions)."""
        for array in self.velocity.values():
            array.fill(0)

    def update(self, step: int, loss: Any, gradients: dict[str, Any], lr: float) -> None:
        """Move every parameter along its gradient, unless this step's loss, or one before, is not finite."""
        self._device.finite.check(loss, step, self._first_bad)
        for name, gradient in gradients.items():
            self._device.nesterov.update(
                self._weights[name], self.velocity[name], gradient, lr, self._momentum, self._first_bad
            )

    def bad_step(self) -> int | None:
        """The first step whose loss was not finite, or None; waits for the device."""
        step = int(self._device.asnumpy(self._first_bad)[0])
        return step if step >= 0 else None

    def state(self) -> dict[str, np.ndarray]:
        """The velocities as NumPy arrays, in run-time order."""
        return {name: self._device.asnumpy(array) for name, array in self.velocity.items()}

    def load_state(self, velocity: Mapping[str, np.ndarray]) -> None:
        """Take velocities in run-time order."""
        self.velocity.update({name: self._device.asarray(array) for name, array in velocity.items()})
