"""bfloat16 as NumPy has it: its bits in uint16."""

from __future__ import annotations

import numpy as np


def to_bfloat16(array: np.ndarray) -> np.ndarray:
    """Float32 rounded to bfloat16, ties to even, as uint16 bits; NaN stays NaN."""
    bits = np.ascontiguousarray(array, np.float32).view(np.uint32)
    rounded = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
    return np.where(np.isnan(array), np.uint16(0x7FC0), rounded)


def from_bfloat16(bits: np.ndarray) -> np.ndarray:
    """Bfloat16 bits as float32."""
    return (bits.astype(np.uint32) << 16).view(np.float32)
