"""Cases of kernels/conv2d/forward_specialised.cu."""

from dataclasses import replace
from functools import partial

from cases_conv2d import check_exact, check_forward, layer, nans, small_integers
from harness import Case

from gzkern.core.shapes import Conv2dSizes
from gzkern.cuda.conv2d import forward_specialised as specialised
from gzkern.cuda.conv2d import operation as conv2d
from gzkern.cuda.conv2d.epilogue import EPILOGUES
from gzkern.cuda.conv2d.forward_specialised import Tile
from gzkern.runtime.emulator.backend import LIMITS

PLAIN, RELU, POOL = map(int, EPILOGUES.values())

# Tiles and shapes C, H, W, N, R, S, K that leave a part of the last patch and block empty along every extent.
QUICK = [
    (Tile(3, 2, POOL, 8, 2, 2, 16, 16, 1, 2, 2, 2, 2, 1), (6, 7, 8, 20, 3, 2, 20)),
    (Tile(2, 3, RELU, 8, 1, 3, 8, 16, 2, 1, 1, 2, 3, 1), (8, 4, 6, 20, 2, 3, 12)),
    (Tile(1, 2, PLAIN, 4, 2, 2, 8, 8, 1, 1, 4, 4, 3, 1), (8, 3, 4, 12, 1, 2, 12)),
]
# Each window of a thread that there is, with each number of splits: filters, rows, columns, splits.
WINDOWS = [
    (epilogue, *window, splits)
    for epilogue, windows in specialised.WINDOWS.items()
    for window in windows
    for splits in (1, 2, 4, 8)
    if splits <= window[0] and (epilogue != "plain" or splits == 1)
]
# The published network's layers: their tiles for a training step, a large one and prediction; fewer positions, images,
# and channels, but stages enough that one takes the place of another.
LAYERS = {
    (3, 45, 45, 6, 6, 32, "pool"): (12, 13),
    (32, 20, 20, 5, 5, 64, "pool"): (8, 9),
    (64, 8, 8, 3, 3, 128, "relu"): (8, 8),
    (128, 6, 6, 3, 3, 128, "pool"): (6, 6),
}
BATCHES = (16, 256, 15360)
# By the tile that the binding chooses: ones, an empty batch, more than 4,096 terms in all.
CHOSEN = [
    ((1, 1, 1, 4, 1, 1, 4), "pool"),
    ((2, 5, 5, 0, 3, 3, 4), "pool"),
    ((7, 5, 9, 36, 2, 4, 36), "relu"),
    ((920, 3, 3, 4, 3, 3, 4), "plain"),
]


def prove(shape, epilogue, tile, label="", **options):
    return Case(
        "conv2d_forward_specialised",
        f"{'x'.join(map(str, shape))}-{epilogue}{label}",
        partial(layer, shape),
        partial(conv2d.convolve, version="specialised", epilogue=epilogue, tile=tile),
        partial(check_forward, shape=shape, epilogue=epilogue),
        shared=True,
        **options,
    )


def form_of(tile):
    return list(EPILOGUES)[tile.epilogue]


def quick_cases():
    for tile, shape in QUICK:
        epilogue = form_of(tile)
        yield prove(shape, epilogue, tile, quick=True)
        yield Case(
            "conv2d_forward_specialised",
            f"ties-{epilogue}",
            partial(layer, shape, small_integers),
            partial(conv2d.convolve, version="specialised", epilogue=epilogue, tile=tile),
            partial(check_exact, epilogue=epilogue),
        )
    for tile, _ in QUICK[:2]:
        epilogue = form_of(tile)
        yield Case(
            "conv2d_forward_specialised",
            f"nan-{epilogue}",
            nans,
            partial(conv2d.convolve, version="specialised", epilogue=epilogue, tile=replace(tile, R=3, S=3)),
            partial(check_exact, epilogue=epilogue),
        )


def window_cases():
    for epilogue, filters, rows, columns, splits in WINDOWS:
        tile = Tile(2, 2, int(EPILOGUES[epilogue]), filters, rows, columns, 16, 16, 1, 1, splits, 2 * splits, 2, 1)
        yield prove((32, 4, 5, 12, 2, 2, 20), epilogue, tile, f"-{filters}x{rows}x{columns}x{splits}")


def layer_cases():
    for (C, H, W, R, S, K, epilogue), (rows, columns) in LAYERS.items():
        tiles = {
            specialised.ALGORITHM.choose_tile(Conv2dSizes(C, H, W, N, R, S, K), epilogue, LIMITS, "fp32"): N
            for N in BATCHES
        }
        for tile, batch in tiles.items():
            channels = (tile.stages + 1) * tile.channels
            yield prove((channels, rows, columns, 20, R, S, 20), epilogue, tile, f"-{batch}")


def cases():
    yield from quick_cases()
    yield from window_cases()
    yield from layer_cases()
    for shape, epilogue in CHOSEN:
        yield prove(shape, epilogue, None)
