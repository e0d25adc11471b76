"""Cases of kernels/conv2d/backward_data_wgmma.cu."""

from functools import partial
from math import prod

from cases_conv2d import as_they_are, check_gradient, check_nan_gradient, gradients, nan_gradients
from cases_conv2d_forward_wgmma import pack_cases
from cases_fragments import tf32
from harness import Case

from gzkern.core.shapes import Conv2dSizes
from gzkern.cuda.conv2d import backward_data_wgmma as conv2d_backward_data_wgmma
from gzkern.cuda.conv2d import operation as conv2d
from gzkern.cuda.conv2d.epilogue import EPILOGUES
from gzkern.cuda.conv2d.wgmma import Tile

# C, H, W, N, R, S, K; epilogue; outputs of a warp, rows and columns of windows, groups of images, stages.
QUICK = [((32, 6, 7, 16, 3, 2, 8), "pool", (32, 1, 2, 2, 2))]
CASES = [
    *QUICK,
    ((64, 6, 5, 20, 3, 2, 16), "relu", (64, 2, 2, 1, 3)),
    ((64, 7, 7, 32, 3, 3, 16), "pool", (32, 2, 1, 2, 2)),
    ((64, 8, 9, 16, 5, 5, 8), "pool", (64, 2, 4, 1, 1)),
    ((32, 4, 9, 68, 1, 1, 8), "plain", (32, 1, 1, 4, 2)),
    ((32, 6, 8, 8, 2, 5, 24), "plain", (32, 1, 4, 1, 2)),
    ((32, 6, 8, 48, 2, 4, 8), "pool", (32, 1, 4, 1, 2)),  # windows of the pool begin amid those of dx
    ((64, 6, 6, 20, 3, 3, 8), "relu", (64, 1, 3, 4, 1)),
    ((32, 3, 3, 0, 3, 3, 8), "pool", (32, 1, 4, 1, 2)),
    ((32, 4, 4, 16, 2, 2, 40), "pool", (32, 1, 2, 2, 3)),  # more stages than are in shared memory at once
]
NAN = (32, 6, 5, 16, 3, 2, 8)


def call(epilogue, shape, tile, precision, *, saved=None, **arrays):
    return conv2d.backward_data(
        version="wgmma",
        saved=saved,
        epilogue=epilogue,
        sizes=Conv2dSizes(*shape),
        tile=tile,
        precision=precision,
        **arrays,
    )


def cases():
    yield from pack_cases(
        conv2d_backward_data_wgmma.PACK, (64, 3, 2, 16), lambda weight: weight[:, ::-1, ::-1].transpose(3, 1, 2, 0)
    )
    for precision, rounded, factor in (("tf32", tf32, 16), ("fp32x3", as_they_are, 4)):
        kernel = f"conv2d_backward_data_wgmma_{precision}"
        for shape, epilogue, block in CASES:
            if precision == "fp32x3" and (block[0] != 32 or prod(block[1:4]) > 8):
                continue
            tile = Tile(*shape[4:6], int(EPILOGUES[epilogue]), *block)
            yield Case(
                kernel,
                f"{'x'.join(map(str, shape))}-{epilogue}",
                partial(gradients, shape, epilogue, ("weight",)),
                partial(call, epilogue, shape, tile, precision),
                partial(check_gradient, shape=shape, epilogue=epilogue, which=0, rounded=rounded, factor=factor),
                quick=(shape, epilogue, block) in QUICK,
                shared=True,
            )
        for epilogue in EPILOGUES:
            yield Case(
                kernel,
                f"nan-{epilogue}",
                partial(nan_gradients, NAN, epilogue, ("weight",)),
                partial(call, epilogue, NAN, None, precision),
                partial(check_nan_gradient, shape=NAN, epilogue=epilogue, which=0),
            )
