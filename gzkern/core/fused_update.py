"""The fused update: a weight moves in the backward pass, and its gradient is never stored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class FusedUpdate:
    """One weight's part in a step of Nesterov momentum; see ``cuda.nesterov``.

    Attributes:
        velocity: of the weight's shape.
        rate: a number, or a float32 array (1,) of the device, read when the step runs.
        momentum: 0 to below 1.
        first_bad: (1,) int64; nothing moves once it holds a step ≥ 0.
        side_stream: run the update on a side stream of a captured step, beside the rest of the backward pass; else one
            kernel computes the gradient of the layer's input and updates the weight (the fused update).
    """

    velocity: Any
    rate: Any
    momentum: float
    first_bad: Any
    side_stream: bool = False
