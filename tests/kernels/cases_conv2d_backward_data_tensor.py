"""Cases of kernels/conv2d_backward_data_tensor.cu."""

from functools import partial

from cases_conv2d import check_gradient, check_nan_gradient, gradients, nan_gradients
from cases_fragments import tf32
from harness import Case

from gzkern.cuda import conv2d_backward_data_tensor as tensor
from gzkern.cuda.conv2d_common import FORMS
from gzkern.shapes import Conv2dSizes

# C, H, W, N, R, S, K; form; of a tile M, J, warps_n, warps_c, window_rows, window_columns, parts.
QUICK = [
    ((20, 6, 5, 8, 3, 3, 12), "pool", (2, 2, 1, 2, 1, 2, 2)),
    ((9, 5, 6, 20, 2, 3, 20), "relu", (1, 4, 1, 1, 2, 1, 1)),
]
CASES = [
    *QUICK,
    ((8, 4, 4, 0, 3, 3, 8), "pool", (2, 2, 1, 2, 1, 2, 2)),  # no images
    ((33, 7, 8, 36, 3, 3, 28), "pool", (2, 2, 1, 2, 1, 2, 2)),
    ((8, 3, 3, 4, 3, 3, 4), "pool", (2, 2, 1, 2, 1, 2, 2)),
    ((33, 4, 7, 36, 2, 3, 4), "relu", (1, 4, 1, 1, 2, 1, 1)),
    ((12, 8, 7, 20, 2, 4, 12), "pool", (1, 4, 1, 1, 2, 2, 1)),  # windows that begin before the patch
    ((16, 5, 9, 36, 3, 5, 36), "plain", (1, 2, 1, 1, 1, 1, 4)),
    ((40, 9, 9, 40, 5, 5, 24), "pool", (2, 4, 1, 1, 2, 2, 1)),
    ((32, 9, 12, 36, 5, 5, 12), "pool", (2, 4, 1, 1, 2, 4, 1)),
    ((68, 6, 6, 36, 3, 3, 12), "pool", (1, 4, 2, 2, 1, 3, 1)),
    ((40, 8, 8, 36, 3, 3, 12), "relu", (2, 4, 1, 2, 2, 2, 1)),
    ((24, 6, 6, 20, 3, 3, 20), "pool", (1, 2, 1, 1, 3, 3, 2)),
    ((72, 6, 6, 20, 3, 3, 40), "relu", (1, 4, 1, 2, 2, 2, 2)),
    ((16, 6, 7, 68, 1, 1, 8), "plain", (2, 2, 2, 1, 1, 2, 1)),
    ((9, 7, 6, 12, 6, 1, 12), "pool", (1, 2, 1, 2, 2, 1, 2)),
]
CHOSEN = [((32, 8, 8, 8, 5, 5, 16), "pool"), ((16, 6, 6, 12, 3, 3, 36), "relu"), ((24, 4, 5, 4, 2, 2, 8), "plain")]


def call(kept=None, **arguments):
    return tensor.backward_data(kept=kept, **arguments)


def check(inputs, results, shape, form, precision):
    """fp32x3 by the rule of float32."""
    return check_gradient(inputs, results, shape, form, 0, *((tf32, 16) if precision == "tf32" else ()))


def case(precision, label, inputs, shape, form, proof, tile=None, quick=False):
    bound = partial(call, form=form, sizes=Conv2dSizes(*shape), precision=precision, tile=tile)
    return Case(f"conv2d_backward_data_tensor_{precision}", label, inputs, bound, proof, quick=quick, shared=True)


def tile_of(shape, form, block):
    return tensor.Tile(*shape[4:6], int(FORMS[form]), *block)


def cases():
    for precision in tensor.KERNELS:
        for shape, form, block in CASES:
            yield case(
                precision,
                f"{'x'.join(map(str, shape))}-{form}",
                partial(gradients, shape, form, ("weight",)),
                shape,
                form,
                partial(check, shape=shape, form=form, precision=precision),
                tile_of(shape, form, block),
                quick=(shape, form, block) in QUICK,
            )
        for shape, form in CHOSEN:
            yield case(
                precision,
                f"{'x'.join(map(str, shape))}-{form}-chosen",
                partial(gradients, shape, form, ("weight",)),
                shape,
                form,
                partial(check, shape=shape, form=form, precision=precision),
            )
        for form in ("plain", "relu", "pool"):
            shape, block = (9, 6, 5, 12, 3, 3, 8), (2, 2, 1, 1, 1, 2, 2)
            yield case(
                precision,
                f"nan-{form}",
                partial(nan_gradients, shape, form, ("weight",)),
                shape,
                form,
                partial(check_nan_gradient, shape=shape, form=form, which=0),
                tile_of(shape, form, block),
            )
