"""bfloat16 as float32; ``kernels/bf16_to_fp32.cu``."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..runtime.arrays import backend_of
from ..runtime.kernel import elementwise, kernel

CONVERT = kernel("bf16_to_fp32")


def convert(x: Any) -> Any:
    """x of any shape, uint16, the bits of bfloat16, as float32."""
    backend = backend_of("bf16_to_fp32", np.uint16, x=x)
    y = backend.empty(x.shape)
    CONVERT(backend, elementwise(x.size), x, y, np.uint32(x.size))
    return y
