"""Cases of kernels/conv2d/backward_data_specialised.cu."""

from functools import partial

import numpy as np
from cases_conv2d import check_gradient, check_nan_gradient, gradients, nan_gradients
from harness import Case

from gzkern.core.shapes import Conv2dSizes
from gzkern.cuda.conv2d import backward_data_specialised as specialised
from gzkern.cuda.conv2d import operation as conv2d
from gzkern.cuda.conv2d.backward_data_specialised import Tile
from gzkern.cuda.conv2d.epilogue import EPILOGUES
from gzkern.runtime.emulator.backend import LIMITS

PLAIN, RELU, POOL = map(int, EPILOGUES.values())
WHICH = 0  # of the three gradients

# Tiles and shapes C, H, W, N, R, S, K, which leave a part of the last rows, channels and images empty; splits within a
# warp and in warps of their own, filters of a stage in one turn and in several, more and fewer pieces than threads.
QUICK = [
    (Tile(3, 2, POOL, 5, 2, 8, 8, 2, 4, 4, 4, 1), (11, 7, 5, 12, 3, 2, 8)),
    (Tile(2, 3, RELU, 4, 1, 4, 32, 1, 1, 2, 2, 1), (5, 4, 4, 40, 2, 3, 6)),
]
# Channels of a thread, and rows, splits and filters of a block.
THREADS = [
    (Tile(1, 1, PLAIN, 3, 4, 16, 16, 2, 2, 4, 2, 1), (17, 5, 3, 20, 1, 1, 4)),
    (Tile(2, 4, RELU, 7, 4, 32, 16, 1, 1, 1, 2, 2), (33, 3, 7, 16, 2, 4, 3)),
    (Tile(5, 5, POOL, 6, 1, 8, 16, 4, 1, 2, 4, 1), (8, 6, 6, 36, 5, 5, 6)),
    (Tile(2, 1, POOL, 1, 8, 32, 8, 8, 4, 8, 8, 1), (40, 8, 1, 12, 2, 1, 16)),
    (Tile(2, 2, RELU, 3, 2, 8, 16, 2, 2, 16, 3, 1), (9, 5, 3, 20, 2, 2, 32)),  # a thread copies two filters' weights
    (Tile(2, 3, POOL, 5, 2, 8, 16, 3, 2, 8, 4, 1), (7, 5, 5, 16, 2, 3, 16)),  # some threads copy none
    (Tile(2, 2, PLAIN, 4, 2, 16, 16, 3, 8, 8, 4, 1), (16, 9, 4, 16, 2, 2, 24)),
]
# The published network's layers: their tiles for training steps and prediction; fewer channels and images.
LAYERS = {
    (32, 20, 20, 5, 5, 64, "pool"): 7,
    (64, 8, 8, 3, 3, 128, "relu"): 17,
    (128, 6, 6, 3, 3, 128, "pool"): 17,
}
BATCHES = (16, 256, 4096)
# By the tile that the binding chooses: ones, primes, splits of a sum of more than 4,096 terms, no images.
CHOSEN = [
    ((1, 1, 1, 4, 1, 1, 1), "pool"),
    ((3, 7, 5, 28, 3, 2, 7), "pool"),
    ((5, 9, 9, 32, 2, 4, 32), "relu"),
    ((2, 3, 4, 8, 3, 3, 920), "plain"),
    ((8, 6, 13, 20, 6, 3, 40), "plain"),
    ((3, 5, 5, 0, 3, 3, 4), "pool"),
]
KERNEL = "conv2d_backward_data_specialised"


def call(*, saved=None, **arguments):
    return conv2d.backward_data(saved=saved, version="specialised", **arguments)


def prove(shape, epilogue, tile, label="", **options):
    return Case(
        KERNEL,
        f"{'x'.join(map(str, shape))}-{epilogue}{label}",
        partial(gradients, shape, epilogue, ("weight",)),
        partial(call, epilogue=epilogue, sizes=Conv2dSizes(*shape), tile=tile),
        partial(check_gradient, shape=shape, epilogue=epilogue, which=WHICH),
        shared=True,
        **options,
    )


def nans(shape, epilogue):
    """Also a weight, which a product with zeros around dz would spread to positions that do not meet it."""
    inputs = nan_gradients(shape, epilogue, ("weight",))
    inputs["weight"][0, 0, 0, 1] = np.nan
    return inputs


def tile_cases():
    for tile, shape in [*QUICK, *THREADS]:
        epilogue = list(EPILOGUES)[tile.epilogue]
        yield prove(shape, epilogue, tile, quick=(tile, shape) in QUICK)
        yield Case(
            KERNEL,
            f"nan-{'x'.join(map(str, shape))}-{epilogue}",
            partial(nans, shape, epilogue),
            partial(call, epilogue=epilogue, sizes=Conv2dSizes(*shape), tile=tile),
            partial(check_nan_gradient, shape=shape, epilogue=epilogue, which=WHICH),
        )


def layer_cases():
    for (C, H, W, R, S, K, epilogue), few in LAYERS.items():
        tiles = {
            specialised.ALGORITHM.choose_tile(Conv2dSizes(C, H, W, N, R, S, K), epilogue, LIMITS, "fp32"): N
            for N in BATCHES
        }
        for tile, batch in tiles.items():
            yield prove((few, H, W, 12, R, S, 2 * tile.filters), epilogue, tile, f"-{batch}")


def cases():
    yield from tile_cases()
    yield from layer_cases()
    for shape, epilogue in CHOSEN:
        yield prove(shape, epilogue, None)
