"""Cases of kernels/conv2d/backward_weights_mma.cu."""

from functools import partial
from unittest import mock

from cases_conv2d import as_they_are, check_gradient, check_nan_gradient, gradients, nan_gradients
from cases_fragments import tf32
from harness import Case

from gzkern.core.shapes import Conv2dSizes
from gzkern.cuda.conv2d import backward_weights_mma as conv2d_backward_weights_mma
from gzkern.cuda.conv2d import operation as conv2d
from gzkern.cuda.conv2d.backward_weights_mma import ALGORITHM, Tile
from gzkern.cuda.conv2d.epilogue import EPILOGUES
from gzkern.runtime.arrays import backend_of

MANY = 1000  # stages: all of them are one part

# C, H, W, N, R, S, K; epilogue; taps, channels, tiles of rows and filters, warps of both, planes, segments; stages.
QUICK = [
    ((9, 6, 7, 20, 3, 2, 20), "pool", (2, 8, 3, 1, 1, 2, 2, 1), 6),  # two blocks each way, a plane of 4 images
    ((3, 5, 7, 12, 2, 4, 16), "relu", (2, 3, 1, 1, 2, 1, 1, 2), MANY),  # tap columns 2 apart
]
CASES = [
    *QUICK,
    ((17, 4, 8, 8, 2, 5, 36), "plain", (5, 16, 2, 2, 2, 1, 1, 4), 1),
    ((1, 8, 8, 36, 6, 6, 8), "pool", (1, 1, 5, 1, 1, 1, 4, 3), MANY),
    ((5, 4, 12, 4, 1, 1, 64), "plain", (1, 8, 1, 2, 1, 2, 1, 1), 3),  # columns in runs of 8, and 4 more
    ((4, 5, 15, 8, 5, 5, 17), "relu", (5, 4, 1, 2, 3, 1, 1, 1), 2),  # runs of a window, and one more
    ((8, 9, 4, 68, 2, 2, 16), "pool", (2, 8, 1, 1, 2, 1, 2, 3), MANY),  # many images
    ((8, 3, 3, 0, 3, 3, 16), "pool", (3, 8, 3, 1, 1, 1, 1, 1), 1),
]
# Layers of the published network, by the tiles that 256 and 4,096 images get: shape, epilogue, rows and images here.
LAYERS = [
    ((3, 45, 45, 6, 6, 32), "pool", 8, 20),
    ((32, 20, 20, 5, 5, 64), "pool", 7, 20),
    ((64, 8, 8, 3, 3, 128), "relu", 4, 20),
    ((128, 6, 6, 3, 3, 128), "pool", 4, 36),
]
NAN = (3, 6, 5, 12, 3, 2, 8)


def call(epilogue, shape, precision, tile=None, layer=None, stages=1, *, saved=None, **arrays):
    """By the tile that a larger layer gets, and parts of so many stages: small sizes would get parts of one."""
    if layer is not None:
        tile = ALGORITHM.choose_tile(layer, epilogue, backend_of("conv2d", x=arrays["x"]).limits, precision)
    with mock.patch.object(conv2d_backward_weights_mma, "_stages", return_value=stages):
        return conv2d.backward_weights(
            version="mma",
            saved=saved,
            epilogue=epilogue,
            sizes=Conv2dSizes(*shape),
            precision=precision,
            tile=tile,
            **arrays,
        )


def cases():
    for precision, rounded, factor in (("tf32", tf32, 16), ("fp32x3", as_they_are, 4)):

        def case(label, shape, epilogue, precision=precision, rounded=rounded, factor=factor, quick=False, **options):
            return Case(
                f"conv2d_backward_weights_mma_{precision}",
                f"{label}{'x'.join(map(str, shape))}-{epilogue}",
                partial(gradients, shape, epilogue, ("x",)),
                partial(call, epilogue, shape, precision, **options),
                partial(check_gradient, shape=shape, epilogue=epilogue, which=1, rounded=rounded, factor=factor),
                quick=quick,
                shared=True,
            )

        for shape, epilogue, block, stages in CASES:
            tile = Tile(*shape[4:6], shape[2] - shape[5] + 1, int(EPILOGUES[epilogue]), *block)
            yield case("", shape, epilogue, tile=tile, stages=stages, quick=(shape, epilogue, block, stages) in QUICK)
        for (C, H, W, R, S, K), epilogue, rows, N in LAYERS:
            for images, stages in ((256, 3), (4096, MANY)):
                layer = Conv2dSizes(C, H, W, images, R, S, K)
                yield case(f"as-{images}-", (C, rows, W, N, R, S, K), epilogue, layer=layer, stages=stages)
        for epilogue in EPILOGUES:
            yield Case(
                f"conv2d_backward_weights_mma_{precision}",
                f"nan-{epilogue}",
                partial(nan_gradients, NAN, epilogue, ("x",)),
                partial(call, epilogue, NAN, precision),
                partial(check_nan_gradient, shape=NAN, epilogue=epilogue, which=1),
            )
