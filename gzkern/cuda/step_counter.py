"""The end of a step: add the loss to a total and count the step, on the device; ``kernels/step_counter.cu``."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..core import arguments
from ..runtime.arrays import backend_of
from ..runtime.kernel import Geometry, kernel

ADVANCE = kernel("step_counter", "advance")


def advance(loss: Any, total: Any, step: Any) -> None:
    """Add loss, float32 of shape (), to total (1,) float64, and 1 to step (1,) int64."""
    backend = backend_of("step_counter", {"total": np.float64, "step": np.int64}, loss=loss, total=total, step=step)
    arguments.step_counter_advance(loss, total, step)
    ADVANCE(backend, Geometry((1,), (1,)), loss, total, step)
