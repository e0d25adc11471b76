"""The guard against losses that are not finite: the number of the first such step is stored on the device."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..core import arguments


def check(values: np.ndarray, step: Any, first_bad: np.ndarray) -> None:
    """Store ``step`` in first_bad (1,) int64, −1 before that, if any of ``values`` is infinite or NaN.

    ``step`` is a number or an int64 array (1,).
    """
    arguments.host_arrays("nan_guard", {"first_bad": np.int64}, values=values, first_bad=first_bad)
    arguments.nan_guard_check(step, first_bad)
    if first_bad[0] < 0 and not np.isfinite(values).all():
        first_bad[:] = step
