"""Cases of kernels/conv2d/forward_wgmma.cu."""

from functools import partial
from math import prod

import numpy as np
from cases_conv2d import as_they_are, check_exact, check_forward, layer, small_integers
from cases_fragments import tf32
from harness import Case
from numerics import normal

from gzkern.cuda.conv2d import forward_wgmma as conv2d_forward_wgmma
from gzkern.cuda.conv2d import operation as conv2d
from gzkern.cuda.conv2d import wgmma as conv2d_wgmma
from gzkern.cuda.conv2d.epilogue import EPILOGUES
from gzkern.cuda.conv2d.wgmma import Tile
from gzkern.runtime.arrays import backend_of

# C, H, W, N, R, S, K; epilogue; filters a warp, rows and columns of windows, groups of images, stages.
QUICK = [((8, 5, 6, 20, 3, 2, 32), "pool", (32, 1, 2, 2, 2))]
CASES = [
    *QUICK,
    ((16, 6, 7, 20, 3, 2, 64), "relu", (64, 2, 2, 1, 3)),
    ((24, 5, 5, 36, 3, 3, 64), "pool", (32, 2, 1, 2, 2)),
    ((8, 8, 9, 4, 5, 5, 64), "pool", (64, 2, 4, 1, 1)),
    ((8, 4, 9, 68, 1, 1, 32), "plain", (32, 1, 1, 4, 2)),
    ((16, 4, 8, 8, 2, 5, 32), "plain", (32, 1, 4, 1, 2)),
    ((8, 6, 6, 20, 3, 3, 64), "relu", (64, 1, 3, 4, 2)),
    ((8, 3, 3, 0, 3, 3, 32), "pool", (32, 1, 4, 1, 2)),
    ((40, 4, 4, 16, 2, 2, 32), "pool", (32, 1, 2, 2, 3)),  # more stages than are in shared memory at once
]
TIES = (8, 7, 8, 8, 3, 3, 32)


def pack(kernel, tile, planes, weight):
    return conv2d_wgmma.pack(backend_of("conv2d", weight=weight), kernel, weight, tile, planes)


def packed(weight, tile, planes):
    """As conv2d/wgmma.cuh says, of weights (depth, R, S, outputs)."""
    rounded = tf32(weight)
    depth, R, S, outputs = weight.shape
    order = np.stack([rounded, tf32((weight - rounded).astype(np.float32))][:planes])
    order = order.reshape(planes, depth // 8, 2, 4, R, S, outputs // tile.outputs, tile.outputs // 8, 8)
    return order.transpose(1, 6, 0, 4, 5, 7, 2, 8, 3)


def pack_cases(kernel, shape, as_depth_first):
    """Each weight in its place, and by two planes what rounding left of it."""
    tile = Tile(*shape[1:3], 0, 32, 2, 2, 1, 1)
    for planes in (1, 2):
        yield Case(
            kernel.name,
            f"{planes}-planes",
            lambda: {"weight": normal(*shape)},
            partial(pack, kernel, tile, planes),
            lambda inputs, results, planes=planes: equal(
                results[0], packed(as_depth_first(inputs["weight"]), tile, planes)
            ),
            quick=planes == 2,
        )


def equal(got, expected):
    np.testing.assert_array_equal(got.ravel(), expected.ravel())
    return 0.0


def cases():
    yield from pack_cases(conv2d_forward_wgmma.PACK, (16, 3, 2, 64), lambda weight: weight)
    for precision, rounded, factor in (("tf32", tf32, 16), ("fp32x3", as_they_are, 4)):
        kernel = f"conv2d_forward_wgmma_{precision}"
        call = partial(conv2d.convolve, version="wgmma", precision=precision)
        for shape, epilogue, block in CASES:
            if precision == "fp32x3" and (block[0] != 32 or prod(block[1:4]) > 8):
                continue
            tile = Tile(*shape[4:6], int(EPILOGUES[epilogue]), *block)
            yield Case(
                kernel,
                f"{'x'.join(map(str, shape))}-{epilogue}",
                partial(layer, shape),
                partial(call, epilogue=epilogue, tile=tile),
                partial(check_forward, shape=shape, epilogue=epilogue, rounded=rounded, factor=factor),
                quick=(shape, epilogue, block) in QUICK,
                shared=True,
            )
        for label, inputs in (("ties", partial(layer, TIES, small_integers)), ("nan", nans)):
            yield Case(kernel, label, inputs, partial(call, epilogue="pool"), partial(check_exact, epilogue="pool"))


def nans():
    inputs = layer(TIES, small_integers)
    inputs["x"][1, 2, 3, 7] = np.nan
    inputs["bias"][2, 1, 1] = np.nan
    return inputs
