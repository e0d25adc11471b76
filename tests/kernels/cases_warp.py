"""Cases of kernels/warp.cu."""

from functools import partial

import numpy as np
from harness import Case
from numerics import UNIT, assert_bounded

from gzkern.augment.geometry import crop_matrices
from gzkern.augment.parameters import draw
from gzkern.augment.warp import warp_reference
from gzkern.config import AugmentConfig
from gzkern.cpu import viewpoints
from gzkern.cuda import warp

QUICK = [(3, 5, 4, 9, 7), (17, 7, 5, 2, 5)]  # B, T, S, H, W; tiles are 16 images by 32 pixels
SHAPES = [*QUICK, (1, 1, 1, 2, 2), (16, 9, 9, 31, 3), (5, 4, 1, 5, 64), (33, 6, 3, 40, 30), (2, 69, 45, 424, 424)]
SHAPES += [(0, 7, 5, 9, 9)]
IMAGES, SLOTS = 4, 3

# Two weights, two means, the mean of these, a product and a sum are rounded, of values up to 1.
TOLERANCE = 8 * UNIT


def inputs(shape, step):
    """White noise, cut far beyond its borders; NaN in the slots that are not meant."""
    B, T, _, H, W = shape
    rng = np.random.default_rng(shape)
    wild = AugmentConfig(translation=3.0 * max(H, W), zoom=3.0)
    matrices = np.full((SLOTS, B, 2, 2, 3), np.nan)
    shifts = np.full((SLOTS, B, 3), np.nan, np.float32)
    matrices[step % SLOTS] = crop_matrices(draw(4, np.arange(B), wild), (H, W), T, scale=2.3)
    shifts[step % SLOTS] = rng.normal(0, 0.2, (B, 3))
    return {
        "images": rng.integers(0, 256, (IMAGES, H, W, 3), np.uint8),
        "indices": rng.integers(0, IMAGES, (SLOTS, B)),
        "matrices": matrices,
        "shifts": shifts,
        "step": np.array([step]),
    }


def exact_crops(inputs, target):
    """By the oracle of the CPU, in float64."""
    slot = inputs["step"][0] % SLOTS
    tables = zip(*(inputs[name][slot] for name in ("indices", "matrices", "shifts")), strict=True)
    crops = [warp_reference(inputs["images"][index], m, target, shift) for index, m, shift in tables]
    return np.array(crops).reshape(-1, 2, target, target, 3)


def are_crops(target):
    return lambda inputs, results: assert_bounded(results[0], exact_crops(inputs, target), TOLERANCE)


def are_patches(target, extent):
    def check(inputs, results):
        exact = viewpoints.forward_oracle(exact_crops(inputs, target), extent)
        if results[0].dtype == np.float32:
            return assert_bounded(results[0], exact, TOLERANCE)
        got = (results[0].astype(np.uint32) << 16).view(np.float32)
        return assert_bounded(got, exact, TOLERANCE + 2.0**-8 * exact)  # bfloat16 has 8 bits

    return check


def nonsense():
    """Matrices that are none: positions that are NaN, infinite, or as far as float64 goes."""
    arrays = inputs((16, 5, 4, 9, 7), 0)
    arrays["matrices"][0] = np.random.default_rng(0).choice(
        [np.nan, np.inf, -np.inf, 1e300, -1e300, 0, 1], (16, 2, 2, 3)
    )
    return arrays


def lie_in_the_image(inputs, results):
    """AddressSanitizer sees where they come from."""
    assert ((results[0] >= 0) & (results[0] <= 1)).all()
    return 0.0


def cases():
    for number, shape in enumerate(SHAPES):
        _, T, S, _, _ = shape
        given = partial(inputs, shape, step=7 * number)
        label, quick = "x".join(map(str, shape)), shape in QUICK
        yield Case("warp_crops", label, given, partial(warp.crops, target=T), are_crops(T), quick=quick)
        for dtype, kernel in warp.PATCHES.items():
            call = partial(warp.patches, target=T, extent=S, dtype=dtype)
            yield Case(kernel.name, label, given, call, are_patches(T, S), quick=quick, shared=True)
    yield Case("warp_crops", "nonsense", nonsense, partial(warp.crops, target=5), lie_in_the_image, quick=True)
