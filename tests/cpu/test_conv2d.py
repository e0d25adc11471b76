"""Convolution: oracle by finite differences, fast path against the float64 oracle, odd shapes first."""

import numpy as np
import pytest
from numerics import assert_within_error_rule

from gzkern.autograd.gradcheck import check_gradients
from gzkern.cpu import conv2d
from gzkern.cpu.jit import conv2d as jit
from gzkern.device import select
from gzkern.errors import InputError
from gzkern.ops.conv2d import conv2d as conv2d_op

# C, H, W, N, R, S, K: ones, primes, tile ± 1, more than one block of N, non-square, odd pooled extents
SHAPES = [
    (1, 1, 1, 1, 1, 1, 1),
    (3, 7, 5, 16, 3, 2, 7),
    (2, 6, 6, 47, 3, 3, 8),
    (5, 5, 9, 49, 2, 4, 9),
    (3, 8, 8, 257, 3, 3, 11),
    (1, 12, 4, 31, 5, 1, 17),
    (4, 5, 5, 33, 5, 5, 3),
    (7, 4, 6, 15, 1, 1, 16),
]
FORMS = [(True, True), (True, False), (False, False)]


def arrays(shape, seed=0):
    C, H, W, N, R, S, K = shape
    rng = np.random.default_rng(seed)
    return (
        rng.standard_normal((C, H, W, N), np.float32),
        rng.standard_normal((C, R, S, K), np.float32),
        rng.standard_normal((K, H - R + 1, W - S + 1), np.float32),
    )


def doubled(*values):
    return [value.astype(np.float64) for value in values]


def squared_scale(x, weight, bias):
    """The sum of squared products, by the same operation on squared inputs."""
    return conv2d.forward_oracle(*(a**2 for a in doubled(x, weight, bias)), activate=False, pool=False)[0]


@pytest.mark.parametrize("shape", SHAPES)
def test_forward_obeys_the_error_rule(shape):
    x, weight, bias = arrays(shape)
    exact, _ = conv2d.forward_oracle(*doubled(x, weight, bias), activate=False, pool=False)
    got, code = conv2d.forward(x, weight, bias, activate=False, pool=False)
    assert code is None
    assert got.dtype == np.float32
    assert_within_error_rule(got, exact, squared_scale(x, weight, bias), weight[..., 0].size + 1)
    rectified, _ = conv2d.forward(x, weight, bias, activate=True, pool=False)
    np.testing.assert_array_equal(rectified, np.maximum(got, 0))


@pytest.mark.parametrize("shape", SHAPES)
def test_pooled_forward_is_the_pool_of_the_plain_one(shape):
    x, weight, bias = arrays(shape)
    plain, _ = conv2d.forward(x, weight, bias, activate=True, pool=False)
    y, code = conv2d.forward(x, weight, bias)
    expected, expected_code = conv2d.maxpool2d.forward(plain)
    np.testing.assert_array_equal(y, expected)
    np.testing.assert_array_equal(code, expected_code)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("activate", "pool"), FORMS)
def test_backward_obeys_the_error_rule(shape, activate, pool):
    x, weight, bias = arrays(shape)
    y, code = conv2d.forward(x, weight, bias, activate=activate, pool=pool)
    gradient = np.random.default_rng(1).standard_normal(y.shape, np.float32)
    got = conv2d.backward(x, weight, y, code, gradient, activate=activate)
    exact = conv2d.backward_oracle(*doubled(x, weight, y), code, gradient.astype(np.float64), activate=activate)
    # Squares of the products: the same pass on squares, the masks being those of y and code as before.
    scale = conv2d.backward_oracle(*doubled(x**2, weight**2, y), code, gradient.astype(np.float64) ** 2,
                                   activate=activate)  # fmt: skip
    _, _, _, N, R, S, K = shape
    P, Q = bias.shape[1:]
    for value, reference, squares, terms in zip(got, exact, scale, (K * R * S, P * Q * N, N), strict=True):
        assert_within_error_rule(value, reference, squares, terms)


def test_backward_data_can_be_left_out():
    x, weight, bias = arrays(SHAPES[1])
    y, code = conv2d.forward(x, weight, bias)
    whole = conv2d.backward(x, weight, y, code, y)
    partial = conv2d.backward(x, weight, y, code, y, data=False)
    assert partial[0] is None
    for a, b in zip(whole[1:], partial[1:], strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(("activate", "pool"), FORMS)
def test_oracle_by_finite_differences(activate, pool):
    inputs = doubled(*arrays((3, 7, 6, 4, 3, 2, 5), seed=3))
    check_gradients(lambda tape, *v: conv2d_op(tape, *v, activate=activate, pool=pool), inputs, select("cpu"))


def test_oracle_against_a_loop():
    x, weight, bias = doubled(*arrays((2, 4, 5, 3, 2, 3, 2)))
    y, _ = conv2d.forward_oracle(x, weight, bias, activate=False, pool=False)
    for (k, p, q, n), value in np.ndenumerate(y):
        window = x[:, p : p + 2, q : q + 3, n]
        assert value == pytest.approx(float((window * weight[..., k]).sum()) + bias[k, p, q], abs=1e-12)


def test_nan_passes_through_and_wins_no_gradient():
    x, weight, bias = arrays((2, 6, 6, 20, 3, 3, 9))
    x[1, 2, 3, 7] = np.nan
    y, code = conv2d.forward(x, weight, bias)
    touched = np.isnan(y)
    assert touched[..., 7].any()
    assert not touched[..., :7].any()
    assert not touched[..., 8:].any()
    assert (code[touched] == 0).all()
    plain, _ = conv2d.forward(x, weight, bias, pool=False)
    assert np.isnan(plain[..., 7]).any()


def test_ties_share_the_gradient_and_zero_takes_none():
    x = np.ones((1, 3, 3, 16), np.float32)
    weight = np.ones((1, 2, 2, 1), np.float32)
    y, code = conv2d.forward(x, weight, np.zeros((1, 2, 2), np.float32))
    assert (y == 4).all()
    assert (code == 15).all()
    _, _, dbias = conv2d.backward(x, weight, y, code, np.ones_like(y))
    assert (dbias == 16).all()
    y, code = conv2d.forward(x, weight, np.full((1, 2, 2), -4, np.float32))
    assert (y == 0).all()
    assert (code == 0).all()


def test_bits_do_not_depend_on_threads():
    from numba import get_num_threads, set_num_threads

    x, weight, bias = arrays((8, 12, 12, 96, 5, 5, 24))
    before = get_num_threads()
    results = []
    try:
        for threads in {1, before}:
            set_num_threads(threads)
            y, code = conv2d.forward(x, weight, bias)
            results.append([y, code, *conv2d.backward(x, weight, y, code, y)])
    finally:
        set_num_threads(before)
    for a, b in zip(results[0], results[-1], strict=True):
        np.testing.assert_array_equal(a, b)


def test_inputs_stay_as_they_were_and_results_fill_their_arrays():
    x, weight, bias = arrays((3, 8, 8, 50, 3, 3, 10))
    copies = x.copy(), weight.copy(), bias.copy()
    y = np.full((10, 6, 6, 50), np.nan, np.float32)
    jit.forward(x, weight, bias, False, y)
    assert np.isfinite(y).all()
    for before, after in zip(copies, (x, weight, bias), strict=True):
        np.testing.assert_array_equal(before, after)


def test_an_empty_batch():
    x, weight, bias = arrays((2, 5, 5, 0, 3, 3, 4))
    y, code = conv2d.forward(x, weight, bias)
    assert y.shape == code.shape == (4, 2, 2, 0)
    dx, dweight, dbias = conv2d.backward(x, weight, y, code, y)
    assert dx.shape == x.shape
    assert not dweight.any()
    assert not dbias.any()


@pytest.mark.parametrize(
    ("argument", "shape", "message"),
    [
        (0, (3, 7, 5), "conv2d: x has shape (3, 7, 5)"),
        (1, (4, 3, 2, 7), "conv2d: weight has shape (4, 3, 2, 7), expected (3, any, any, any)"),
        (2, (7, 5, 5), "conv2d: bias has shape (7, 5, 5), expected (7, 5, 4)"),
    ],
)
def test_wrong_shapes_are_named(argument, shape, message):
    values = list(arrays(SHAPES[1]))
    values[argument] = np.zeros(shape, np.float32)
    with pytest.raises(InputError) as caught:
        conv2d.forward(*values)
    assert message in str(caught.value)
