"""ReLU, max-pool, maxout, clip and loss: finite differences, ties, NaN, odd shapes."""

import numpy as np
import pytest

from gzkern.autograd.gradcheck import check_gradients
from gzkern.cpu import constraints, maxout, maxpool2d, mse, relu
from gzkern.device import select
from gzkern.errors import InputError
from gzkern.ops.constraints import clip
from gzkern.ops.maxout import maxout as maxout_op
from gzkern.ops.maxpool2d import maxpool2d as maxpool2d_op
from gzkern.ops.mse import mse as mse_op
from gzkern.ops.relu import relu as relu_op
from gzkern.ops.viewpoints import flatten, merge_views

CPU = select("cpu")


def distinct(shape, seed=0, low=0.1):
    """Shuffled values at least 0.05 apart and away from 0: no ties, no kinks."""
    size = int(np.prod(shape))
    values = low + 0.05 * np.arange(size)
    return np.random.default_rng(seed).permutation(values).reshape(shape)


@pytest.mark.parametrize(
    ("operation", "shape"),
    [
        (maxpool2d_op, (3, 4, 6, 2)),
        (maxpool2d_op, (2, 5, 3, 3)),
        (maxpool2d_op, (1, 1, 1, 1)),
        (maxout_op, (8, 3)),
        (flatten, (2, 3, 3, 16)),
        (merge_views, (2, 3, 3, 32)),
    ],
)
def test_by_finite_differences(operation, shape):
    check_gradients(operation, [distinct(shape)], CPU)


def test_relu_and_clip_by_finite_differences():
    signed = distinct((4, 5)) * np.where(np.arange(5) % 2, 1, -1)
    check_gradients(relu_op, [signed], CPU)
    check_gradients(clip, [signed], CPU)


def test_mse_by_finite_differences():
    targets = distinct((5, 3), seed=1)
    check_gradients(lambda tape, p: mse_op(tape, p, targets), [distinct((5, 3))], CPU)


def test_a_gradient_check_fails_on_a_wrong_backward():
    from gzkern.errors import GzkernError

    def wrong(tape, x):
        return tape.record(x.value**2, (x,), lambda gradient: (gradient * x.value,))

    with pytest.raises(GzkernError, match="by differences"):
        check_gradients(wrong, [distinct((3,))], CPU)

    def kinked(tape, x):
        return tape.record(np.abs(x.value), (x,), lambda gradient: (gradient * np.sign(x.value),))

    with pytest.raises(GzkernError, match="kink"):
        check_gradients(kinked, [np.zeros(3)], CPU)


def test_maxpool_over_the_border_takes_what_is_there():
    x = np.arange(1, 10, dtype=np.float32).reshape(1, 3, 3, 1)
    y, code = maxpool2d.forward(x)
    np.testing.assert_array_equal(y[0, ..., 0], [[5, 6], [8, 9]])
    np.testing.assert_array_equal(code[0, ..., 0], [[8, 4], [2, 1]])
    dx = maxpool2d.backward(np.ones_like(y), code, 3, 3)
    np.testing.assert_array_equal(dx[0, ..., 0], [[0, 0, 0], [0, 1, 1], [0, 1, 1]])


def test_ties_and_nan():
    tied = np.array([[2.0], [2.0], [1.0], [np.nan]], np.float32)
    y, code = maxout.forward(tied)
    assert y[0] == 2
    assert np.isnan(y[1])
    np.testing.assert_array_equal(code, [[3], [0]])
    np.testing.assert_array_equal(maxout.backward(np.ones_like(y), code), [[1], [1], [0], [0]])
    assert np.isnan(relu.forward(np.array([np.nan, -1.0]))[0])
    assert np.isnan(constraints.clip_forward(np.array([np.nan]))[0])
    pooled, code = maxpool2d.forward(np.array([1, np.nan, 2, 3], np.float32).reshape(1, 2, 2, 1))
    assert np.isnan(pooled).all()
    assert (code == 0).all()


def test_relu_gradient_at_zero_is_zero():
    y = relu.forward(np.array([-1.0, 0.0, 2.0]))
    np.testing.assert_array_equal(relu.backward(np.ones(3), y), [0, 0, 1])


def test_maxout_refuses_an_odd_number_of_pieces():
    with pytest.raises(InputError, match="maxout: x has 3 rows"):
        maxout.forward(np.zeros((3, 2)))


def test_mse_is_the_mean_over_batch_and_answers():
    p, targets = np.zeros((37, 16)), np.zeros((37, 16))
    p[0, 0] = 2
    assert mse.forward(p, targets) == pytest.approx(4 / (16 * 37))
    np.testing.assert_allclose(mse.backward(np.float64(1), p, targets)[0, 0], 4 / (16 * 37))
    with pytest.raises(InputError, match="mse: targets has shape"):
        mse.forward(p, targets.T)
