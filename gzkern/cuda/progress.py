"""The end of a step: the loss is added up and the step counted, on the device; ``kernels/progress.cu``."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import check
from .launch import Geometry, Kernel, backend_of, require_writable

ADVANCE = Kernel("progress", "progress_advance")


def advance(loss: Any, total: Any, step: Any) -> None:
    """Add loss, float32 of shape (), to total (1,) float64, and 1 to step (1,) int64."""
    backend = backend_of("progress", {"total": np.float64, "step": np.int64}, loss=loss, total=total, step=step)
    check.shape("progress", "loss", loss, ())
    check.shape("progress", "total", total, (1,))
    check.shape("progress", "step", step, (1,))
    require_writable("progress", total=total, step=step)
    ADVANCE(backend, Geometry((1,), (1,)), loss, total, step)
