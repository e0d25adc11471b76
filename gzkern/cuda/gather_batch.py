"""The batch that the step counter on the device names; ``kernels/gather_batch.cu``."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..core import arguments
from ..errors import InputError
from ..runtime.arrays import backend_of
from ..runtime.backend import ALIGNMENT
from ..runtime.kernel import choose, elementwise, extents, kernel

GATHER = {"naive": kernel("gather_batch", "naive"), "vectorised": kernel("gather_batch", "vectorised")}


def gather(batches: Any, step: Any, version: str | None = None) -> Any:
    """Copy ``batches[step % slots]``, by "naive", or by "vectorised" where 16 divides its bytes.

    Args:
        batches: (slots, …) float32, at least one slot.
        step: (1,) int64, at least 0.
        version: of the kernel; None takes the faster.

    Raises:
        InputError: an argument is not as said here.
    """
    backend = backend_of("gather_batch", {"step": np.int64}, batches=batches, step=step)
    arguments.shape("gather_batch", "step", step, (1,))
    if batches.ndim < 1 or batches.shape[0] < 1:
        raise InputError(f"gather_batch: batches has shape {batches.shape}, expected at least one slot")
    slots, *shape = batches.shape
    size = batches.nbytes // slots  # bytes of a slot
    version = version or ("naive" if size % ALIGNMENT else "vectorised")
    kernel = choose("gather_batch", GATHER, version)
    if version == "vectorised" and size % ALIGNMENT:
        raise InputError(f"gather_batch: a slot has {size} bytes; version 'vectorised' needs a multiple of {ALIGNMENT}")
    batch = backend.empty(tuple(shape), batches.dtype)
    loads = size // (ALIGNMENT if version == "vectorised" else batches.dtype.itemsize)
    kernel(backend, elementwise(loads), batches, step, batch, *extents(slots, loads))
    return batch
