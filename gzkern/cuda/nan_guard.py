"""The guard against losses that are not finite: see :mod:`gzkern.cpu.nan_guard`; ``kernels/nan_guard.cu``."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..core import arguments
from ..runtime.arrays import backend_of, number
from ..runtime.kernel import elementwise, kernel

CHECK = kernel("nan_guard", "check")


def check(values: Any, step: Any, first_bad: Any) -> None:
    """Store ``step`` in first_bad (1,) int64, −1 before that, if any of ``values`` (float32) is infinite or NaN.

    ``step`` is a number, or an int64 array (1,) of the device, read when the kernel runs.
    """
    backend = backend_of("nan_guard", {"first_bad": np.int64}, values=values, first_bad=first_bad)
    arguments.nan_guard_check(step, first_bad)
    CHECK(backend, elementwise(values.size), values, np.uint32(values.size), number(backend, step, np.int64), first_bad)
