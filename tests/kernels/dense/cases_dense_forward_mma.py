"""Cases of kernels/dense/forward_mma.cu."""

from functools import partial

import numpy as np
from cases_conv2d import as_they_are
from cases_dense import ACTIVATIONS, eighths, sums
from cases_fragments import bfloat16, from_bfloat16, tf32, through_bfloat16
from harness import Case
from numerics import assert_within_error_rule, normal, wide

from gzkern.cuda.dense import forward_mma as dense_forward_mma
from gzkern.runtime.arrays import backend_of

# I, O, B and the images of a block: odd sums, more than a block and less, several parts, empty ones.
QUICK = [((37, 40, 40), 64), ((301, 264, 72), 128)]
SHAPES = [
    *QUICK,
    ((1, 8, 8), 64),
    ((33, 256, 64), 64),
    ((16, 520, 136), 64),
    ((129, 512, 128), 128),
    ((4200, 8, 8), 64),
    ((63, 8, 264), 128),
    ((0, 8, 40), 64),
    ((24, 0, 40), 64),
    ((24, 40, 0), 128),
]
ROUNDED = {"tf32": (tf32, 16.0), "fp32x3": (as_they_are, 4.0), "bf16": (through_bfloat16, 16.0)}
"""How operands are rounded, and the factor of the error rule: tensor cores cut off the low bits of what they add."""


def fours(shapes, precision):
    """O and B that are multiples of 4 alone, where the format takes them."""
    return shapes if precision == "bf16" else [*shapes, ((21, 36, 36), 64), ((21, 260, 100), 128)]


def layer(shape, numbers=normal, precision="fp32x3"):
    inputs, outputs, B = shape
    arrays = {"x": numbers(inputs, B), "weight": numbers(inputs, outputs)}
    return {name: bfloat16(array) for name, array in arrays.items()} if precision == "bf16" else arrays


def check(inputs, results, shape, precision):
    rounded, factor = ROUNDED[precision]
    x, weight = (rounded(array) for array in wide(layer(shape)).values())
    got = results[0].astype(np.float64).sum(axis=0).T
    return assert_within_error_rule(got, weight.T @ x, weight.T**2 @ x**2, shape[0], factor)


def nans(precision):
    """One input and one weight of a stage's tail: a row and a column of the result."""
    arrays = layer((53, 72, 40), eighths)
    arrays["x"][51, 13] = arrays["weight"][20, 70] = np.nan
    return {name: bfloat16(array) for name, array in arrays.items()} if precision == "bf16" else arrays


def check_exact(inputs, results):
    """Of numbers whose sums every format has."""
    x, weight = (from_bfloat16(array) if array.dtype == np.uint16 else array for array in inputs.values())
    np.testing.assert_array_equal(results[0].astype(np.float64).sum(axis=0).T, weight.T.astype(np.float64) @ x)
    return 0.0


def check_activated(inputs, results, activation):
    expected, _ = ACTIVATIONS[activation](inputs["partial"].sum(axis=0).T + inputs["bias"][:, None])
    np.testing.assert_array_equal(from_bfloat16(results[0]), through_bfloat16(expected))
    return 0.0


def multiply(x, weight, precision, images=None):
    dtype = np.uint16 if precision == "bf16" else np.float32
    return dense_forward_mma.product(backend_of("dense", dtype, x=x, weight=weight), x, weight, precision, images)


def activate(partial, bias, activation):
    return dense_forward_mma.activate(backend_of("dense", partial=partial, bias=bias), partial, bias, activation)


def cases():
    for precision in dense_forward_mma.KERNELS:
        for shape, images in fours(SHAPES, precision):
            yield Case(
                kernel=f"dense_forward_mma_{precision}_{images}",
                label="x".join(map(str, shape)),
                inputs=partial(layer, shape, precision=precision),
                call=partial(multiply, precision=precision, images=images),
                check=partial(check, shape=shape, precision=precision),
                quick=(shape, images) in QUICK,
                shared=True,
            )
        yield Case(
            kernel=f"dense_forward_mma_{precision}_64",
            label="nan",
            inputs=partial(nans, precision),
            call=partial(multiply, precision=precision),
            check=check_exact,
            shared=True,
        )
    for activation in dense_forward_mma.ACTIVATE:
        for parts, outputs, B in ((1, 8, 8), (3, 40, 40), (13, 264, 72), (2, 8, 0)):
            yield Case(
                kernel=f"dense_forward_mma_{activation}",
                label=f"{parts}x{outputs}x{B}",
                inputs=partial(sums, parts, outputs, B),
                call=partial(activate, activation=activation),
                check=partial(check_activated, activation=activation),
                quick=outputs == 40,
                shared=True,
            )
