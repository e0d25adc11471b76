"""Dense layer, its gradient kept as factors, and the update that uses them."""

from functools import partial

import numpy as np
import pytest
from numerics import assert_within_error_rule

from gzkern.autograd.gradcheck import check_gradients
from gzkern.core.dropout_mask import DropoutMask
from gzkern.cpu import dense, dropout, maxout, relu
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


ACTIVATIONS = ["linear", "relu", "maxout"]


@pytest.mark.parametrize("shape", SHAPES)
def test_all_passes_obey_the_error_rule(shape):
    x, weight, bias, gradient = arrays(shape)
    wide = [a.astype(np.float64) for a in (x, weight, bias, gradient)]
    squares = [a**2 for a in wide]
    inputs, outputs, B = shape
    z, _ = dense.forward(x, weight, bias)
    assert_within_error_rule(z, dense.forward(*wide[:3])[0], dense.forward(*squares[:3])[0], inputs + 1)
    got = dense.backward(x, weight, z, None, gradient)
    exact = dense.backward(*wide[:2], z, None, wide[3])
    scale = dense.backward(*squares[:2], z, None, squares[3])
    for value, reference, square, terms in zip(got, exact, scale, (outputs, B, B), strict=True):
        assert_within_error_rule(np.asarray(value), reference, square, terms)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activations_are_those_of_the_single_operations(activation):
    x, weight, bias, _ = arrays((24, 48, 8))
    z, _ = dense.forward(x, weight, bias)
    y, code = dense.forward(x, weight, bias, activation=activation)
    expected, expected_code = {
        "linear": (z, None),
        "relu": (relu.forward(z), None),
        "maxout": maxout.forward(z),
    }[activation]
    np.testing.assert_array_equal(y, expected)
    np.testing.assert_array_equal(code, expected_code)


MASK = DropoutMask(0.4, 5, 6, 7)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("activation", ["relu", "maxout"])
def test_dropout_within_is_dropout_apart(activation, dtype):
    x, weight, bias, gradient = (a.astype(dtype) for a in arrays((24, 48, 9)))
    gradient = gradient[:24] if activation == "maxout" else gradient
    y, code = dense.forward(x, weight, bias, activation=activation)
    dropped, dropped_code = dense.forward(x, weight, bias, activation=activation, drop=MASK)
    np.testing.assert_array_equal(dropped, dropout.forward(y, MASK))
    apart = dense.backward(x, weight, y, code, dropout.backward(gradient, MASK), activation=activation)
    within = dense.backward(x, weight, dropped, dropped_code, gradient, activation=activation, drop=MASK)
    for one, other in zip(within, apart, strict=True):
        np.testing.assert_array_equal(np.asarray(one), np.asarray(other))


@pytest.mark.parametrize(
    ("activation", "drop"), [*((each, None) for each in ACTIVATIONS), ("relu", MASK), ("maxout", MASK)]
)
def test_oracle_by_finite_differences(activation, drop):
    x, weight, bias, _ = (a.astype(np.float64) for a in arrays((7, 6, 3)))
    check_gradients(partial(dense_op, activation=activation, drop=drop), [x, weight, bias], select("cpu"))


def test_bits_do_not_depend_on_threads():
    from numba import get_num_threads, set_num_threads

    x, weight, bias, gradient = arrays((1000, 1100, 16))
    before = get_num_threads()
    results = []
    try:
        for threads in {1, before}:
            set_num_threads(threads)
            z, _ = dense.forward(x, weight, bias)
            dx, dweight, _ = dense.backward(x, weight, z, None, gradient)
            results.append([z, dx, np.asarray(dweight)])
    finally:
        set_num_threads(before)
    for a, b in zip(results[0], results[-1], strict=True):
        np.testing.assert_array_equal(a, b)


def test_an_empty_batch():
    x, weight, bias, gradient = arrays((30, 20, 0))
    z, _ = dense.forward(x, weight, bias)
    assert z.shape == (20, 0)
    dx, dweight, dbias = dense.backward(x, weight, z, None, gradient)
    assert dx.shape == (30, 0)
    assert not np.asarray(dweight).any()
    assert not dbias.any()


def test_wrong_shapes_are_named():
    x, weight, bias, _ = arrays((7, 5, 3))
    with pytest.raises(InputError, match=r"dense: weight has shape \(7, 5\), expected \(6, any\)"):
        dense.forward(x[:6], weight, bias)
    with pytest.raises(InputError, match="dense: weight has dtype float64, expected float32"):
        dense.forward(x, weight.astype(np.float64), bias)
    with pytest.raises(InputError, match="dense: activation is 'tanh', expected linear, relu or maxout"):
        dense.forward(x, weight, bias, activation="tanh")
    with pytest.raises(
        InputError, match="dense: drop is given, expected None: what a linear layer drops leaves no trace"
    ):
        dense.forward(x, weight, bias, drop=MASK)
