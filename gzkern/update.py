"""What a backward pass needs to move a weight where its gradient is made, so that the gradient is never stored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Update:
    """One weight's part in a step of Nesterov momentum; see ``cuda.nesterov``.

    Attributes:
        velocity: of the weight's shape.
        rate: a number, or a float32 array (1,) of the device, read when the step runs.
        momentum: 0 to below 1.
        first_bad: (1,) int64; nothing moves once it holds a step ≥ 0.
        behind: move the weight beside what the backward pass does next, not in one pass with the gradient of the input.
    """

    velocity: Any
    rate: Any
    momentum: float
    first_bad: Any
    behind: bool = False
