"""One reusable float32 buffer a thread, for what an operation needs only while it runs.

A fresh array of tens of megabytes costs a page fault every 4 KB; the un-pooled gradients of the convolutions
would pay that at every step.
"""

from __future__ import annotations

import math
import threading

import numpy as np

_local = threading.local()


def scratch(shape: tuple[int, ...]) -> np.ndarray:
    """An uninitialised float32 array, valid until this thread asks for the next one."""
    size = math.prod(shape)
    if not hasattr(_local, "buffer") or _local.buffer.size < size:
        _local.buffer = np.empty(size, np.float32)
    return _local.buffer[:size].reshape(shape)
