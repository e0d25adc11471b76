"""Cases of kernels/dense/backward_data_mma.cu."""

from functools import partial

import numpy as np
from cases_dense import SCALES, backward_inputs, call_backward, eighths
from cases_dense_forward_mma import ROUNDED
from harness import Case
from numerics import assert_within_error_rule

from gzkern.cpu import maxout, relu
from gzkern.cuda.dense import backward_data_mma as dense_backward_data_mma
from gzkern.cuda.dense.launches import Gradient
from gzkern.runtime.arrays import backend_of

# I, O, B, the activation and the images of a block: tails, more than a block and less, several parts, empty sums.
QUICK = [((37, 36, 40), "maxout", 64), ((261, 40, 72), "relu", 128)]
SHAPES = [
    *QUICK,
    ((264, 300, 36), "maxout", 64),
    ((1, 4, 4), "linear", 64),
    ((256, 32, 136), "linear", 64),
    ((515, 132, 128), "maxout", 128),
    ((6, 4200, 8), "relu", 64),
    ((8, 64, 260), "maxout", 128),
    ((0, 8, 40), "relu", 64),
    ((24, 0, 40), "linear", 64),
    ((24, 40, 0), "maxout", 128),
]


def gradient_of_z(arrays, activation):
    """With the dropout's scale, in float32 as kernels have it."""
    scaled = arrays["gradient"] * np.float32(SCALES[activation])
    if activation == "maxout":
        return maxout.backward(scaled, arrays["code"])
    return relu.backward(scaled, arrays["y"]) if activation == "relu" else scaled


def operands(inputs, name, activation, rounded):
    """The array of this name and the gradient of z, in float64."""
    return (rounded(a.astype(np.float64)) for a in (inputs[name], gradient_of_z(inputs, activation)))


def check(inputs, results, activation, precision):
    rounded, factor = ROUNDED[precision]
    weight, dz = operands(inputs, "weight", activation, rounded)
    got = results[0].astype(np.float64).sum(axis=0).T
    return assert_within_error_rule(got, weight @ dz, weight**2 @ dz**2, len(dz), factor)


def nans():
    """A weight and a gradient, of which one piece passes."""
    arrays = {"weight": eighths(53, 72), "gradient": eighths(36, 40), "code": np.full((36, 40), 1, np.uint8)}
    arrays["weight"][51, 13] = arrays["gradient"][35, 20] = np.nan
    return arrays


def check_exact(inputs, results):
    """Of numbers whose sums every format has."""
    weight, dz = inputs["weight"].astype(np.float64), gradient_of_z(inputs, "maxout")
    np.testing.assert_array_equal(results[0].astype(np.float64).sum(axis=0).T, weight @ dz)
    return 0.0


def multiply(weight, gradient, saved, activation, scale, **options):
    layer = Gradient(gradient, gradient if saved is None else saved, activation, scale)
    return dense_backward_data_mma.product(backend_of("dense", gradient=gradient), weight, layer, **options)


def cases():
    for precision in dense_backward_data_mma.KERNELS:
        for shape, activation, images in SHAPES:
            call = partial(multiply, precision=precision, images=images)
            yield Case(
                kernel=f"dense_backward_data_mma_{precision}_{images}",
                label=f"{'x'.join(map(str, shape))}-{activation}",
                inputs=partial(backward_inputs, shape, activation, "weight"),
                call=partial(call_backward, call, activation),
                check=partial(check, activation=activation, precision=precision),
                quick=(shape, activation, images) in QUICK,
                shared=True,
            )
        yield Case(
            kernel=f"dense_backward_data_mma_{precision}_64",
            label="nan",
            inputs=nans,
            call=partial(call_backward, partial(multiply, precision=precision), "maxout"),
            check=check_exact,
            shared=True,
        )
