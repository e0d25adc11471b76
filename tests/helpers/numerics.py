"""The error rule: how far a float32 result may lie from float64 (DESIGN of the project, "Numbers")."""

import numpy as np

UNIT = 2.0**-24


def normal(*shape, seed=0):
    """Float32 from a normal distribution, the same for the same shape and seed."""
    return np.random.default_rng((seed, *shape)).standard_normal(shape, np.float32)


def wide(arrays):
    """Arrays by name, float32 as float64."""
    return {name: a.astype(np.float64) if a.dtype == np.float32 else a for name, a in arrays.items()}


def assert_within_error_rule(got, exact, scale_squared, terms, factor=4.0):
    """|got − exact| ≤ factor·u·√terms·√(Σ(aᵢbᵢ)²), ``scale_squared`` being that sum of squares in float64.

    Returns the largest error as a fraction of its bound.
    """
    bound = factor * UNIT * np.sqrt(terms) * np.sqrt(scale_squared)
    return assert_bounded(got, exact, bound)


def assert_within_ulps(got, exact, ulps=2):
    """Every float32 within so many units in the last place of the float64 result: elementwise operations."""
    return assert_bounded(got, exact, ulps * np.spacing(np.abs(exact).astype(np.float32)).astype(np.float64))


def assert_bounded(got, exact, bound):
    """Every |got − exact| ≤ bound, NaN failing; on failure the first five offenders.

    Returns the largest error as a fraction of its bound.
    """
    assert got.shape == exact.shape, f"shape {got.shape}, expected {exact.shape}"
    error = np.abs(got.astype(np.float64) - exact)
    bad = ~(error <= bound)
    if bad.any():
        bound = np.broadcast_to(bound, error.shape)
        lines = [
            f"{tuple(map(int, index))}: got {got[tuple(index)]!r}, exact {exact[tuple(index)]!r}, "
            f"error {error[tuple(index)]:.3e}, bound {bound[tuple(index)]:.3e}"
            for index in np.argwhere(bad)[:5]
        ]
        raise AssertionError(f"{bad.sum()} of {bad.size} off\n" + "\n".join(lines))
    bound = np.broadcast_to(bound, error.shape)
    nonzero = error > 0
    return float((error[nonzero] / bound[nonzero]).max()) if nonzero.any() else 0.0
