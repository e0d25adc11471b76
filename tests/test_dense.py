"""Dense layer, its gradient kept as factors, and the update that uses them."""

import numpy as np
import pytest
from numerics import assert_within_error_rule

from gzkern.autograd.gradcheck import check_gradients
from gzkern.cpu import dense
from gzkern.device import select
from gzkern.errors import InputError
from gzkern.ops.dense import dense as dense_op

SHAPES = [(1, 1, 1), (7, 5, 3), (129, 65, 16), (24, 48, 8), (25, 49, 9), (300, 513, 17), (5000, 33, 2)]


def arrays(shape):
    inputs, outputs, B = shape
    rng = np.random.default_rng(0)
    return (
        rng.standard_normal((inputs, B), np.float32),
        rng.standard_normal((inputs, outputs), np.float32),
        rng.standard_normal(outputs, np.float32),
        rng.standard_normal((outputs, B), np.float32),
    )


@pytest.mark.parametrize("shape", SHAPES)
def test_all_passes_obey_the_error_rule(shape):
    x, weight, bias, gradient = arrays(shape)
    wide = [a.astype(np.float64) for a in (x, weight, bias, gradient)]
    squares = [a**2 for a in wide]
    inputs, outputs, B = shape
    assert_within_error_rule(
        dense.forward(x, weight, bias), dense.forward_oracle(*wide[:3]), dense.forward_oracle(*squares[:3]), inputs + 1
    )
    got = dense.backward(x, weight, gradient)
    exact = dense.backward_oracle(wide[0], wide[1], wide[3])
    scale = dense.backward_oracle(squares[0], squares[1], squares[3])
    for value, reference, square, terms in zip(got, exact, scale, (outputs, B, B), strict=True):
        assert_within_error_rule(np.asarray(value), reference, square, terms)


def test_oracle_by_finite_differences():
    x, weight, bias, _ = (a.astype(np.float64) for a in arrays((7, 5, 3)))
    check_gradients(dense_op, [x, weight, bias], select("cpu"))


def test_bits_do_not_depend_on_threads():
    from numba import get_num_threads, set_num_threads

    x, weight, bias, gradient = arrays((1000, 1100, 16))
    before = get_num_threads()
    results = []
    try:
        for threads in {1, before}:
            set_num_threads(threads)
            dx, dweight, _ = dense.backward(x, weight, gradient)
            results.append([dense.forward(x, weight, bias), dx, np.asarray(dweight)])
    finally:
        set_num_threads(before)
    for a, b in zip(results[0], results[-1], strict=True):
        np.testing.assert_array_equal(a, b)


def test_an_empty_batch():
    x, weight, bias, gradient = arrays((30, 20, 0))
    assert dense.forward(x, weight, bias).shape == (20, 0)
    dx, dweight, dbias = dense.backward(x, weight, gradient)
    assert dx.shape == (30, 0)
    assert not np.asarray(dweight).any()
    assert not dbias.any()


def test_wrong_shapes_are_named():
    x, weight, bias, _ = arrays((7, 5, 3))
    with pytest.raises(InputError, match=r"dense: weight has shape \(7, 5\), expected \(6, any\)"):
        dense.forward(x[:6], weight, bias)
    with pytest.raises(InputError, match="dense: expected one dtype"):
        dense.forward(x, weight.astype(np.float64), bias)
