"""Cases of kernels/dense/backward_weights_mma.cu."""

from functools import partial

import numpy as np
from cases_dense import backward_inputs, call_backward, eighths
from cases_dense_backward_data_mma import gradient_of_z, operands
from cases_dense_forward_mma import ROUNDED
from harness import Case
from numerics import assert_within_error_rule

from gzkern.cuda.dense import backward_weights_mma as dense_backward_weights_mma
from gzkern.cuda.dense.launches import Gradient
from gzkern.runtime.arrays import backend_of

# I, O, B and the activation: as for the other passes.
QUICK = [((37, 36, 40), "maxout"), ((133, 264, 20), "relu")]
SHAPES = [
    *QUICK,
    ((71, 300, 36), "maxout"),
    ((1, 4, 4), "linear"),
    ((128, 256, 64), "linear"),
    ((300, 512, 132), "maxout"),
    ((2, 4, 4200), "relu"),
    ((8, 64, 260), "maxout"),
    ((0, 8, 40), "relu"),
    ((24, 0, 40), "linear"),
    ((24, 40, 0), "maxout"),
]


def check(inputs, results, activation, precision):
    rounded, factor = ROUNDED[precision]
    x, dz = operands(inputs, "x", activation, rounded)
    got = results[0].astype(np.float64).sum(axis=0)
    return assert_within_error_rule(got, x @ dz.T, x**2 @ (dz**2).T, x.shape[1], factor)


def nans():
    """An input and a gradient, of which one piece passes."""
    arrays = {"x": eighths(53, 40), "gradient": eighths(36, 40), "code": np.full((36, 40), 2, np.uint8)}
    arrays["x"][51, 13] = arrays["gradient"][35, 20] = np.nan
    return arrays


def check_exact(inputs, results):
    """Of numbers whose sums every format has."""
    x, dz = inputs["x"].astype(np.float64), gradient_of_z(inputs, "maxout")
    np.testing.assert_array_equal(results[0].astype(np.float64).sum(axis=0), x @ dz.T)
    return 0.0


def multiply(x, gradient, saved, activation, scale, **options):
    layer = Gradient(gradient, gradient if saved is None else saved, activation, scale)
    return dense_backward_weights_mma.product(backend_of("dense", gradient=gradient), x, layer, **options)


def cases():
    for precision in dense_backward_weights_mma.KERNELS:
        for shape, activation in SHAPES:
            call = partial(multiply, precision=precision)
            yield Case(
                kernel=f"dense_backward_weights_mma_{precision}",
                label=f"{'x'.join(map(str, shape))}-{activation}",
                inputs=partial(backward_inputs, shape, activation, "x"),
                call=partial(call_backward, call, activation),
                check=partial(check, activation=activation, precision=precision),
                quick=(shape, activation) in QUICK,
                shared=True,
            )
        yield Case(
            kernel=f"dense_backward_weights_mma_{precision}",
            label="nan",
            inputs=nans,
            call=partial(call_backward, partial(multiply, precision=precision), "maxout"),
            check=check_exact,
            shared=True,
        )
