"""The error that a result may have: the rule of the tests, by precision, on outputs that are sampled.

|y − y₆₄| ≤ 4·u·√L·√(Σ(ab)²) for a sum of L products in float32, u being half its last place. In tf32 and bf16 comes
2⁻⁸·(|y₆₄| + √(Σ(ab)²)): for factors that are cut off to TF32, or results rounded to bfloat16 after each call.
"""

from __future__ import annotations

from typing import Any

import numpy as np

PRECISIONS = ("fp32", "tf32", "fp32x3", "bf16")
_UNIT = 2.0**-24
LIMITS = {"ours": 1.0, "theirs": 4.0}
"""Errors allowed, as fractions of the bound. Winograd's algorithm errs by more than a direct sum; TF32 where float32 is
asked for by far more, and is found out.
"""


def bound(precision: str, terms: int, squares: Any, exact: Any) -> Any:
    """Return the largest error of sums of ``terms`` products, ``squares`` being the sums of their squares."""
    allowed = 4 * _UNIT * np.sqrt(terms) * np.sqrt(squares)
    if precision in ("tf32", "bf16"):
        allowed = allowed + 2.0**-8 * (np.abs(exact) + np.sqrt(squares))
    return allowed


def worst(got: np.ndarray, exact: np.ndarray, allowed: Any) -> float:
    """Return the largest error as a fraction of its bound; infinite for NaN or another shape."""
    if got.shape != exact.shape:
        return float("inf")
    error = np.asarray(np.abs(got.astype(np.float64) - exact))
    allowed = np.broadcast_to(allowed, error.shape)
    wrong = error > 0
    if not np.isfinite(error).all():
        return float("inf")
    with np.errstate(divide="ignore"):
        return float((error[wrong] / allowed[wrong]).max()) if wrong.any() else 0.0
