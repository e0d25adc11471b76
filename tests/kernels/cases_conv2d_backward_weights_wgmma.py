"""Cases of kernels/conv2d_backward_weights_wgmma.cu."""

from functools import partial

from cases_conv2d import check_gradient, check_nan_gradient, gradients, nan_gradients
from cases_fragments import tf32
from harness import Case

from gzkern.cuda import conv2d_backward_weights_wgmma
from gzkern.cuda.conv2d_backward_weights_wgmma import Tile
from gzkern.cuda.conv2d_common import FORMS
from gzkern.shapes import Conv2dSizes

KERNEL = "conv2d_backward_weights_wgmma"
# C, H, W, N, R, S, K; form; of a block 64s of filters, channels, groups of channels, splits of rows, stages.
QUICK = [((16, 6, 5, 16, 3, 2, 64), "pool", (1, 16, 1, 2, 2))]
CASES = [
    *QUICK,
    ((16, 7, 6, 16, 3, 3, 128), "relu", (2, 16, 1, 1, 2)),  # odd rows of dz
    ((64, 5, 7, 8, 3, 3, 64), "plain", (1, 32, 2, 1, 1)),  # odd columns
    ((32, 8, 9, 24, 5, 5, 64), "pool", (1, 16, 1, 2, 3)),
    ((32, 7, 7, 16, 3, 3, 64), "pool", (1, 32, 1, 2, 2)),  # odd rows and columns
    ((16, 4, 9, 8, 1, 1, 64), "relu", (1, 16, 1, 2, 2)),
]
LONG = ((16, 5, 18, 168, 1, 2, 64), "plain", (1, 16, 1, 2, 2))  # several sums go to memory, one onto the other
NAN = (16, 6, 7, 16, 3, 2, 64)


def call(form, shape, tile, *, kept=None, **arrays):
    return conv2d_backward_weights_wgmma.backward_weights(
        kept=kept, form=form, sizes=Conv2dSizes(*shape), tile=tile, **arrays
    )


def cases():
    for shape, form, block in [*CASES, LONG]:
        yield Case(
            KERNEL,
            f"{'x'.join(map(str, shape))}-{form}",
            partial(gradients, shape, form, ("x",)),
            partial(call, form, shape, Tile(*shape[4:6], shape[2], int(FORMS[form]), *block)),
            partial(check_gradient, shape=shape, form=form, which=1, rounded=tf32, factor=16),
            quick=(shape, form, block) in QUICK,
            shared=True,
        )
    for form in FORMS:
        yield Case(
            KERNEL,
            f"nan-{form}",
            partial(nan_gradients, NAN, form, ("x",)),
            partial(call, form, NAN, None),
            partial(check_nan_gradient, shape=NAN, form=form, which=1),
        )
