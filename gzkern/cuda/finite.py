"""The watch for a step that went wrong, which costs no wait: see :mod:`gzkern.cpu.finite`; ``kernels/finite.cu``."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import check as checks
from .launch import Kernel, backend_of, elementwise, number, require_writable

CHECK = Kernel("finite", "finite_check")


def check(values: Any, step: Any, first_bad: Any) -> None:
    """Store ``step`` in first_bad (1,) int64, −1 before that, if any of ``values`` (float32) is infinite or NaN.

    ``step`` is a number, or an int64 array (1,) of the device, read when the kernel runs.
    """
    backend = backend_of("finite", {"first_bad": np.int64}, values=values, first_bad=first_bad)
    checks.shape("finite", "first_bad", first_bad, (1,))
    require_writable("finite", first_bad=first_bad)
    CHECK(backend, elementwise(values.size), values, np.uint32(values.size), number(backend, step, np.int64), first_bad)
