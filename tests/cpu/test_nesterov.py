"""The update: against plain NumPy, against its two-line formula, and with a gradient kept as factors."""

import numpy as np
import pytest

from gzkern.cpu import nan_guard, nesterov
from gzkern.cpu.dense import OuterProduct

GOOD = np.full(1, -1, np.int64)


def state(shape, seed=0):
    rng = np.random.default_rng(seed)
    return tuple(rng.standard_normal(shape, np.float32) for _ in range(3))


@pytest.mark.parametrize("shape", [(1,), (5, 3), (257, 300), (32, 40, 40)])
def test_fast_update_equals_the_oracle(shape):
    weight, velocity, gradient = state(shape)
    expected = [a.astype(np.float64) for a in (weight, velocity)]
    nesterov.update_oracle(*expected, gradient.astype(np.float64), np.float32(0.1), np.float32(0.9))
    nesterov.update(weight, velocity, gradient, 0.1, 0.9, GOOD)
    np.testing.assert_allclose(velocity, expected[1], rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(weight, expected[0], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("inputs", "outputs", "batch"), [(1, 1, 1), (13, 49, 5), (70, 130, 16)])
def test_factors_give_the_update_of_their_product(inputs, outputs, batch):
    weight, velocity, _ = state((inputs, outputs))
    rng = np.random.default_rng(1)
    factors = OuterProduct(
        rng.standard_normal((batch, inputs), np.float32), rng.standard_normal((batch, outputs), np.float32)
    )
    expected = weight.copy(), velocity.copy()
    nesterov.update(*expected, np.asarray(factors), 0.05, 0.9, GOOD)
    nesterov.update(weight, velocity, factors, 0.05, 0.9, GOOD)
    np.testing.assert_allclose(weight, expected[0], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(velocity, expected[1], rtol=1e-5, atol=1e-6)


def test_two_steps_by_hand_with_a_falling_rate():
    weight, velocity = np.array([1.0]), np.array([0.0])
    nesterov.update(weight, velocity, np.array([2.0]), 0.5, 0.9, GOOD)  # v = −1, w = 1 − 0.9 − 1
    assert velocity == pytest.approx(-1)
    assert weight == pytest.approx(-0.9)
    nesterov.update(weight, velocity, np.array([1.0]), 0.05, 0.9, GOOD)  # v keeps the old rate: −0.9 − 0.05
    assert velocity == pytest.approx(-0.95)
    assert weight == pytest.approx(-0.9 - 0.855 - 0.05)


def test_nothing_moves_after_a_bad_step():
    first_bad = np.full(1, -1, np.int64)
    nan_guard.check(np.ones(3), 4, first_bad)
    assert first_bad == -1
    for step, values in ((5, [1.0, np.inf]), (6, [np.nan])):
        nan_guard.check(np.array(values), step, first_bad)
        assert first_bad == 5
    for dtype in (np.float32, np.float64):
        weight, velocity = np.ones(4, dtype), np.ones(4, dtype)
        nesterov.update(weight, velocity, np.ones(4, dtype), 0.1, 0.9, first_bad)
        assert (weight == 1).all()
        assert (velocity == 1).all()
