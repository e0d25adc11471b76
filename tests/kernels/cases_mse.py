"""Cases of kernels/mse.cu."""

from functools import partial

import numpy as np
from harness import Case
from numerics import assert_within_error_rule, wide

from gzkern.cpu import mse as oracle
from gzkern.cuda import mse

SHAPES = [(1, 1), (37, 16), (37, 3), (256, 1), (257, 5), (37, 4000)]  # A, B


def inputs(shape):
    rng = np.random.default_rng(shape)
    return {name: rng.random(shape, np.float32) for name in ("p", "targets")}


def backward_inputs(shape):
    return {"gradient": np.array(0.7, np.float32), **inputs(shape)}


def check_forward(inputs, results):
    p, targets = wide(inputs).values()
    scale = ((p - targets) ** 4).sum() / p.size**2
    return assert_within_error_rule(results[0], oracle.forward(p, targets), scale, p.size)


def check_backward(inputs, results):
    """Four roundings: the difference, 2/n, and two products."""
    exact = oracle.backward(**wide(inputs))
    return assert_within_error_rule(results[0], exact, exact**2, 1)


def check_nan(inputs, results):
    assert results[0].shape == ()
    assert np.isnan(results[0])
    return 0.0


def cases():
    for shape in SHAPES:
        how = {"label": "x".join(map(str, shape)), "quick": shape in ((37, 3), (257, 5))}
        yield Case(
            kernel="mse_forward",
            inputs=partial(inputs, shape),
            call=mse.forward,
            check=check_forward,
            shared=True,
            **how,
        )
        yield Case(
            kernel="mse_backward",
            inputs=partial(backward_inputs, shape),
            call=mse.backward,
            check=check_backward,
            **how,
        )
    yield Case("mse_forward", "37x0", partial(inputs, (37, 0)), mse.forward, check_nan)
    nan = {"p": np.array([[0.5, np.nan, 1]], np.float32), "targets": np.zeros((1, 3), np.float32)}
    yield Case("mse_forward", "nan", lambda: nan, mse.forward, check_nan)
    empty = {"gradient": np.array(1, np.float32), "p": np.zeros((37, 0), np.float32)}
    yield Case(
        kernel="mse_backward",
        label="37x0",
        inputs=lambda: {**empty, "targets": empty["p"]},
        call=mse.backward,
        check=lambda inputs, results: float(results[0].size),
    )
