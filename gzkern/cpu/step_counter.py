"""The end of a step: add the loss to a total and count the step, on the device."""

from __future__ import annotations

import numpy as np

from ..core import arguments


def advance(loss: np.ndarray, total: np.ndarray, step: np.ndarray) -> None:
    """Add loss, of shape (), to total (1,) float64, and 1 to step (1,) int64."""
    dtypes = {"total": np.float64, "step": np.int64}
    arguments.host_arrays("step_counter", dtypes, loss=loss, total=total, step=step)
    arguments.step_counter_advance(loss, total, step)
    total += loss
    step += 1
