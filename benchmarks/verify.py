"""How far a result may lie from float64: the error rule of the tests, by precision, on outputs that are sampled.

|y − y₆₄| ≤ 4·u·√L·√(Σ(ab)²) for a sum of L products, u being half the last place that factors or sums are rounded to;
in bf16, whose factors are given in bf16, the sum's in float32 and the last place of the result.
"""

from __future__ import annotations

from typing import Any

import numpy as np

PRECISIONS = ("fp32", "tf32", "fp32x3", "bf16")
UNIT = {"fp32": 2.0**-24, "fp32x3": 2.0**-24, "tf32": 2.0**-11, "bf16": 2.0**-24}
LIMITS = {"ours": 1.0, "theirs": 16.0}
"""Errors allowed as fractions of the bound. Other algorithms (Winograd's, a result rounded after each of several calls)
err by a few times as much; TF32 where float32 is asked for, by a thousand times as much, and is found out.
"""


def bound(precision: str, terms: int, squares: Any, exact: Any) -> Any:
    """The largest error of sums of ``terms`` products, ``squares`` being the sums of their squares."""
    rounding = 2.0**-8 * np.abs(exact) if precision == "bf16" else 0.0
    return 4 * UNIT[precision] * np.sqrt(terms) * np.sqrt(squares) + rounding


def worst(got: np.ndarray, exact: np.ndarray, allowed: Any) -> float:
    """The largest error as a fraction of its bound; infinite for NaN or another shape."""
    if got.shape != exact.shape:
        return float("inf")
    error = np.asarray(np.abs(got.astype(np.float64) - exact))
    allowed = np.broadcast_to(allowed, error.shape)
    wrong = error > 0
    if not np.isfinite(error).all():
        return float("inf")
    with np.errstate(divide="ignore"):
        return float((error[wrong] / allowed[wrong]).max()) if wrong.any() else 0.0


def to_bfloat16(array: np.ndarray) -> np.ndarray:
    """Float32 rounded to bfloat16, ties to even, as uint16 bits."""
    bits = np.ascontiguousarray(array, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def from_bfloat16(bits: np.ndarray) -> np.ndarray:
    """Bfloat16 bits as float32."""
    return (bits.astype(np.uint32) << 16).view(np.float32)
