"""The register tiles by themselves: every remainder of rows, columns and lanes, offsets, strides, bounds."""

import numpy as np
import pytest
from numerics import assert_within_error_rule

from gzkern.cpu.jit.tiles import INNER_ROWS, LANES, TILE_ROWS, WIDE, inner, outer

LENGTHS = sorted({1, LANES - 1, LANES, LANES + 1, WIDE - 1, WIDE, WIDE + 1, 2 * WIDE + LANES + 3})
ROWS = [1, TILE_ROWS - 1, TILE_ROWS, TILE_ROWS + 1, 2 * TILE_ROWS + 3]


def guarded(shape):
    """An array of NaN and a flat view: what is not written stays NaN."""
    array = np.full(shape, np.nan, np.float32)
    return array, array.reshape(-1)


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("K", ROWS)
@pytest.mark.parametrize("keep", [False, True])
def test_outer(K, length, keep):
    rng = np.random.default_rng(0)
    taps, order = 5, np.array([3, 0, 4, 1, 2])
    w, x = rng.standard_normal((taps, K + 2), np.float32), rng.standard_normal((taps, length + 3), np.float32)
    out, flat = guarded((K, length + 2))
    start = rng.standard_normal((K, length), np.float32)
    if keep:
        out[:, 1:-1] = start
    outer(
        w.reshape(-1), 2, order * w.shape[1], K, x.reshape(-1), 3, order * x.shape[1], taps,
        flat, 1, out.shape[1], length, keep,
    )  # fmt: skip
    wide_w, wide_x = w[:, 2:].astype(np.float64), x[:, 3:].astype(np.float64)
    exact = wide_w.T @ wide_x + (start if keep else 0)
    scale = (wide_w**2).T @ wide_x**2 + (start.astype(np.float64) ** 2 if keep else 0)
    assert_within_error_rule(out[:, 1:-1], exact, scale, taps + keep)
    assert np.isnan(out[:, [0, -1]]).all()


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("K", ROWS)
@pytest.mark.parametrize("rows", [1, INNER_ROWS, INNER_ROWS + 1, 2 * INNER_ROWS + 2])
def test_inner(rows, K, length):
    rng = np.random.default_rng(0)
    x, z = rng.standard_normal((rows + 1, length + 2), np.float32), rng.standard_normal((K, length + 4), np.float32)
    out, flat = guarded((rows + 1, K + 1))
    out[1:, :-1] = start = rng.standard_normal((rows, K), np.float32)
    offsets = np.arange(rows + 1) * x.shape[1]
    inner(x.reshape(-1), 2, offsets, 1, rows + 1, z.reshape(-1), 4, z.shape[1], K, length, flat, 0, out.shape[1])
    wide_x, wide_z = x[1:, 2:].astype(np.float64), z[:, 4:].astype(np.float64)
    scale = wide_x**2 @ (wide_z**2).T + start.astype(np.float64) ** 2
    assert_within_error_rule(out[1:, :-1], wide_x @ wide_z.T + start, scale, length + 1)
    assert np.isnan(out[0]).all()
    assert np.isnan(out[:, -1]).all()
