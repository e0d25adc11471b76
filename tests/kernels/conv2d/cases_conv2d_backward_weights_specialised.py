"""Cases of kernels/conv2d/backward_weights_specialised.cu."""

from functools import partial
from unittest import mock

import numpy as np
from cases_conv2d import check_gradient, check_nan_gradient, gradients, nan_gradients
from harness import Case

from gzkern.core.shapes import Conv2dSizes
from gzkern.cuda.conv2d import backward_weights_specialised as specialised
from gzkern.cuda.conv2d import operation as conv2d
from gzkern.cuda.conv2d.backward_weights_specialised import Tile
from gzkern.cuda.conv2d.epilogue import EPILOGUES
from gzkern.runtime.emulator.backend import LIMITS

PLAIN, RELU, POOL = map(int, EPILOGUES.values())
WHICH = 1  # of the three gradients

# Tiles, shapes C, H, W, N, R, S, K and stages of a part, which leave a part of the last row block, filter block, item,
# stage and part empty; the second one has threads beyond the last group.
QUICK = [
    (Tile(3, 2, POOL, 2, 8, 2, 4, 2), (6, 5, 7, 20, 3, 2, 36), 3),
    (Tile(2, 3, RELU, 1, 9, 3, 3, 1), (5, 4, 7, 8, 2, 3, 5), 4),
]
# Tiles of a thread: its sums by every number of rows, and of columns at once.
THREADS = [
    (Tile(1, 1, PLAIN, 4, 8, 1, 2, 2), (33, 3, 4, 8, 1, 1, 33), 5),
    (Tile(2, 2, POOL, 4, 8, 2, 3, 1), (9, 5, 6, 12, 2, 2, 7), 2),
    (Tile(3, 4, PLAIN, 3, 11, 2, 1, 1), (3, 5, 6, 12, 3, 4, 8), 7),
    (Tile(1, 7, RELU, 2, 8, 2, 2, 2), (3, 2, 10, 8, 1, 7, 8), 2),
    (Tile(2, 12, POOL, 1, 8, 2, 2, 2), (2, 3, 13, 8, 2, 12, 8), 2),
]
# The published network's layers: their tiles for training steps and prediction; fewer channels, positions, images.
LAYERS = {
    (3, 45, 45, 6, 6, 32, "pool"): (3, 8, 15),
    (32, 20, 20, 5, 5, 64, "pool"): (7, 7, 20),
    (64, 8, 8, 3, 3, 128, "relu"): (17, 5, 8),
    (128, 6, 6, 3, 3, 128, "pool"): (17, 5, 6),
}
BATCHES = (16, 256, 4096)
# By the tile that the binding chooses: ones, primes, sums of more than 4,096 terms.
CHOSEN = [
    ((1, 1, 1, 4, 1, 1, 1), "pool"),
    ((3, 7, 5, 28, 3, 2, 7), "pool"),
    ((5, 9, 9, 32, 2, 4, 32), "relu"),
    ((1, 3, 3, 4500, 2, 2, 2), "pool"),
    ((8, 7, 9, 20, 6, 3, 40), "plain"),
]
KERNEL = "conv2d_backward_weights_specialised"


def call(*, saved=None, stages=None, **arguments):
    """Small sizes are cut into parts of one stage, which shows nothing of how one follows another."""
    if stages is None:
        return conv2d.backward_weights(saved=saved, version="specialised", **arguments)
    with mock.patch.object(Tile, "stages", return_value=stages):
        return conv2d.backward_weights(saved=saved, version="specialised", **arguments)


def prove(shape, epilogue, tile, label="", stages=None, **options):
    return Case(
        KERNEL,
        f"{'x'.join(map(str, shape))}-{epilogue}{label}",
        partial(gradients, shape, epilogue, ("x",)),
        partial(call, epilogue=epilogue, sizes=Conv2dSizes(*shape), tile=tile, stages=stages),
        partial(check_gradient, shape=shape, epilogue=epilogue, which=WHICH),
        shared=True,
        **options,
    )


def nans(shape, epilogue):
    """Also one in x, which a product with a gradient of 0 would spread to taps that do not read it."""
    inputs = nan_gradients(shape, epilogue, ("x",))
    inputs["x"][1, 0, -1, 3] = np.nan
    return inputs


def tile_cases():
    for tile, shape, stages in [*QUICK, *THREADS]:
        epilogue = list(EPILOGUES)[tile.epilogue]
        quick = (tile, shape, stages) in QUICK
        yield prove(shape, epilogue, tile, stages=stages, quick=quick)
        yield Case(
            KERNEL,
            f"nan-{'x'.join(map(str, shape))}-{epilogue}",
            partial(nans, shape, epilogue),
            partial(call, epilogue=epilogue, sizes=Conv2dSizes(*shape), tile=tile, stages=stages),
            partial(check_nan_gradient, shape=shape, epilogue=epilogue, which=WHICH),
        )


def layer_cases():
    for (C, H, W, R, S, K, epilogue), (few, rows, columns) in LAYERS.items():
        tiles = {
            specialised.ALGORITHM.choose_tile(Conv2dSizes(C, H, W, N, R, S, K), epilogue, LIMITS, "fp32"): N
            for N in BATCHES
        }
        for tile, batch in tiles.items():
            yield prove((few, rows, columns, 20, R, S, 36), epilogue, tile, f"-{batch}", stages=2)


def cases():
    yield from tile_cases()
    yield from layer_cases()
    for shape, epilogue in CHOSEN:
        yield prove(shape, epilogue, None)
