"""Cases of kernels/conv2d/backward_data_mma.cu."""

from functools import partial

from cases_conv2d import check_gradient, check_nan_gradient, gradients, nan_gradients
from cases_fragments import tf32
from harness import Case

from gzkern.core.shapes import Conv2dSizes
from gzkern.cuda.conv2d import backward_data_mma as mma
from gzkern.cuda.conv2d import operation as conv2d
from gzkern.cuda.conv2d.epilogue import EPILOGUES

# C, H, W, N, R, S, K; epilogue; of a tile M, J, warps_n, warps_c, window_rows, window_columns, parts.
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


def call(saved=None, **arguments):
    return conv2d.backward_data(saved=saved, version="mma", **arguments)


def check(inputs, results, shape, epilogue, precision):
    """fp32x3 by the rule of float32."""
    return check_gradient(inputs, results, shape, epilogue, 0, *((tf32, 16) if precision == "tf32" else ()))


def case(precision, label, inputs, shape, epilogue, proof, tile=None, quick=False):
    bound = partial(call, epilogue=epilogue, sizes=Conv2dSizes(*shape), precision=precision, tile=tile)
    return Case(f"conv2d_backward_data_mma_{precision}", label, inputs, bound, proof, quick=quick, shared=True)


def tile_of(shape, epilogue, block):
    return mma.Tile(*shape[4:6], int(EPILOGUES[epilogue]), *block)


def cases():
    for precision in mma.ALGORITHM.kernels:
        for shape, epilogue, block in CASES:
            yield case(
                precision,
                f"{'x'.join(map(str, shape))}-{epilogue}",
                partial(gradients, shape, epilogue, ("weight",)),
                shape,
                epilogue,
                partial(check, shape=shape, epilogue=epilogue, precision=precision),
                tile_of(shape, epilogue, block),
                quick=(shape, epilogue, block) in QUICK,
            )
        for shape, epilogue in CHOSEN:
            yield case(
                precision,
                f"{'x'.join(map(str, shape))}-{epilogue}-chosen",
                partial(gradients, shape, epilogue, ("weight",)),
                shape,
                epilogue,
                partial(check, shape=shape, epilogue=epilogue, precision=precision),
            )
        for epilogue in ("plain", "relu", "pool"):
            shape, block = (9, 6, 5, 12, 3, 3, 8), (2, 2, 1, 1, 1, 2, 2)
            yield case(
                precision,
                f"nan-{epilogue}",
                partial(nan_gradients, shape, epilogue, ("weight",)),
                shape,
                epilogue,
                partial(check_nan_gradient, shape=shape, epilogue=epilogue, which=0),
                tile_of(shape, epilogue, block),
            )
