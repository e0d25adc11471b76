"""A slot of a ring of batches, whose number is on the device; ``kernels/take.cu``."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import check
from ..errors import InputError
from .launch import ALIGNMENT, Kernel, backend_of, choose, elementwise, extents

TAKE = {"naive": Kernel("take", "take_naive"), "vectorised": Kernel("take", "take_vectorised")}


def take(ring: Any, step: Any, version: str | None = None) -> Any:
    """A copy of ``ring[step % slots]``, by "naive", or by "vectorised" where 16 divides its bytes.

    Args:
        ring: (slots, …) float32, at least one slot.
        step: (1,) int64, at least 0.
        version: of the kernel; None takes the faster.

    Raises:
        InputError: an argument is not as said here.
    """
    backend = backend_of("take", {"step": np.int64}, ring=ring, step=step)
    check.shape("take", "step", step, (1,))
    if ring.ndim < 1 or ring.shape[0] < 1:
        raise InputError(f"take: ring has shape {ring.shape}, expected at least one slot")
    slots, *shape = ring.shape
    size = ring.nbytes // slots  # bytes of a slot
    version = version or ("naive" if size % ALIGNMENT else "vectorised")
    kernel = choose("take", TAKE, version)
    if version == "vectorised" and size % ALIGNMENT:
        raise InputError(f"take: a slot has {size} bytes, expected a multiple of {ALIGNMENT} for version 'vectorised'")
    taken = backend.empty(tuple(shape), ring.dtype)
    loads = size // (ALIGNMENT if version == "vectorised" else ring.dtype.itemsize)
    kernel(backend, elementwise(loads), ring, step, taken, *extents(slots, loads))
    return taken
