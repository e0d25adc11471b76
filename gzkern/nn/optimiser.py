"""Nesterov momentum over a dictionary of parameters."""

from __future__ import annotations

from typing import Any

from ..device import Device


class Nesterov:
    """Weights and their velocities, updated in place; ``velocity`` starts at 0."""

    def __init__(self, device: Device, weights: dict[str, Any], momentum: float):
        self._device = device
        self._weights = weights
        self._momentum = momentum
        self.velocity = {name: array * 0 for name, array in weights.items()}

    def reset(self) -> None:
        """Velocity back to 0, as where the warm-up ends (the original's two training functions)."""
        for array in self.velocity.values():
            array[...] = 0

    def update(self, gradients: dict[str, Any], lr: float) -> None:
        """One step of every parameter along its gradient."""
        for name, gradient in gradients.items():
            self._device.nesterov.update(self._weights[name], self.velocity[name], gradient, lr, self._momentum)
