"""Cases of kernels/conv2d/backward_weights_wgmma.cu."""

from functools import partial

from cases_conv2d import check_gradient, check_nan_gradient, gradients, nan_gradients
from cases_fragments import tf32
from harness import Case

from gzkern.core.shapes import Conv2dSizes
from gzkern.cuda.conv2d import operation as conv2d
from gzkern.cuda.conv2d.backward_weights_wgmma import Tile
from gzkern.cuda.conv2d.epilogue import EPILOGUES

KERNEL = "conv2d_backward_weights_wgmma"
# C, H, W, N, R, S, K; epilogue; of a block 64s of filters, channels, groups of channels, splits of rows, stages.
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


def call(epilogue, shape, tile, *, saved=None, **arrays):
    return conv2d.backward_weights(
        version="wgmma",
        precision="tf32",
        saved=saved,
        epilogue=epilogue,
        sizes=Conv2dSizes(*shape),
        tile=tile,
        **arrays,
    )


def cases():
    for shape, epilogue, block in [*CASES, LONG]:
        yield Case(
            KERNEL,
            f"{'x'.join(map(str, shape))}-{epilogue}",
            partial(gradients, shape, epilogue, ("x",)),
            partial(call, epilogue, shape, Tile(*shape[4:6], shape[2], int(EPILOGUES[epilogue]), *block)),
            partial(check_gradient, shape=shape, epilogue=epilogue, which=1, rounded=tf32, factor=16),
            quick=(shape, epilogue, block) in QUICK,
            shared=True,
        )
    for epilogue in EPILOGUES:
        yield Case(
            KERNEL,
            f"nan-{epilogue}",
            partial(nan_gradients, NAN, epilogue, ("x",)),
            partial(call, epilogue, NAN, None),
            partial(check_nan_gradient, shape=NAN, epilogue=epilogue, which=1),
        )
