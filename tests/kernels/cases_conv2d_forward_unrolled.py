"""Cases of kernels/conv2d_forward_unrolled.cu."""

from dataclasses import replace
from functools import partial

from cases_conv2d import check_exact, check_forward, layer, nans, small_integers
from harness import Case

from gzkern.cuda import conv2d_forward_unrolled as unrolled
from gzkern.cuda.conv2d_common import FORMS
from gzkern.cuda.conv2d_forward_unrolled import Tile
from gzkern.emulator.backend import LIMITS
from gzkern.shapes import Conv2dSizes

PLAIN, RELU, POOL = map(int, FORMS.values())

# Tiles and shapes C, H, W, N, R, S, K that leave a part of the last patch and block empty along every extent.
QUICK = [
    (Tile(3, 2, POOL, 8, 2, 2, 16, 16, 1, 2, 2, 2, 2, 1), (6, 7, 8, 20, 3, 2, 20)),
    (Tile(2, 3, RELU, 8, 1, 3, 8, 16, 2, 1, 1, 2, 3, 1), (8, 4, 6, 20, 2, 3, 12)),
    (Tile(1, 2, PLAIN, 4, 2, 2, 8, 8, 1, 1, 4, 4, 3, 1), (8, 3, 4, 12, 1, 2, 12)),
]
# Each window of a thread that there is, with each number of splits: filters, rows, columns, splits.
WINDOWS = [
    (form, *window, splits)
    for form, windows in unrolled.WINDOWS.items()
    for window in windows
    for splits in (1, 2, 4, 8)
    if splits <= window[0] and (form != "plain" or splits == 1)
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


def prove(shape, form, tile, label="", **options):
    return Case(
        "conv2d_forward_unrolled",
        f"{'x'.join(map(str, shape))}-{form}{label}",
        partial(layer, shape),
        partial(unrolled.convolve, form=form, tile=tile),
        partial(check_forward, shape=shape, form=form),
        shared=True,
        **options,
    )


def form_of(tile):
    return list(FORMS)[tile.form]


def quick_cases():
    for tile, shape in QUICK:
        form = form_of(tile)
        yield prove(shape, form, tile, quick=True)
        yield Case(
            "conv2d_forward_unrolled",
            f"ties-{form}",
            partial(layer, shape, small_integers),
            partial(unrolled.convolve, form=form, tile=tile),
            partial(check_exact, form=form),
        )
    for tile, _ in QUICK[:2]:
        form = form_of(tile)
        yield Case(
            "conv2d_forward_unrolled",
            f"nan-{form}",
            nans,
            partial(unrolled.convolve, form=form, tile=replace(tile, R=3, S=3)),
            partial(check_exact, form=form),
        )


def window_cases():
    for form, filters, rows, columns, splits in WINDOWS:
        tile = Tile(2, 2, int(FORMS[form]), filters, rows, columns, 16, 16, 1, 1, splits, 2 * splits, 2, 1)
        yield prove((32, 4, 5, 12, 2, 2, 20), form, tile, f"-{filters}x{rows}x{columns}x{splits}")


def layer_cases():
    for (C, H, W, R, S, K, form), (rows, columns) in LAYERS.items():
        tiles = {unrolled.choose_tile(Conv2dSizes(C, H, W, N, R, S, K), form, LIMITS): N for N in BATCHES}
        for tile, batch in tiles.items():
            channels = (tile.stages + 1) * tile.channels
            yield prove((channels, rows, columns, 20, R, S, 20), form, tile, f"-{batch}")


def cases():
    yield from quick_cases()
    yield from window_cases()
    yield from layer_cases()
    for shape, form in CHOSEN:
        yield prove(shape, form, None)
