"""Cases of kernels/viewpoints.cu."""

from functools import partial

import numpy as np
from cases_fragments import bfloat16
from harness import Case
from numerics import assert_within_error_rule

from gzkern.cpu import viewpoints as oracle
from gzkern.cuda import viewpoints

VERSIONS = ("naive", "tiled")
QUICK = [(3, 5, 4), (17, 7, 5)]  # B, T, S; tiles are 16 images by 32 pixels
SHAPES = [*QUICK, (1, 1, 1), (16, 9, 9), (5, 4, 1), (33, 6, 3), (16, 69, 45), (0, 7, 5)]


def pixels(B, T, dtype):
    rng = np.random.default_rng(B + T)
    shape = (B, 2, T, T, 3)
    if dtype == "uint8":
        return rng.integers(0, 256, shape, np.uint8)
    crops = rng.random(shape, np.float32)
    crops[rng.random(shape) < 0.01] = np.nan
    return crops


def is_a_copy(extent):
    def check(inputs, results):
        crops = inputs["crops"]
        if crops.dtype == np.uint8:
            crops = crops * np.float32(1 / 255)
        expected = oracle.forward_oracle(crops, extent)
        np.testing.assert_array_equal(results[0], bfloat16(expected) if results[0].dtype == np.uint16 else expected)
        return 0.0

    return check


def sums_at_most_eight(target):
    def check(inputs, results):
        gradient = inputs["gradient"]
        np.testing.assert_array_equal(results[0], oracle.backward(gradient, target))  # in the same order
        gradient = gradient.astype(np.float64)
        exact, squares = oracle.backward(gradient, target), oracle.backward(gradient**2, target)
        return assert_within_error_rule(results[0], exact, squares, terms=8)

    return check


def cases():
    for version in VERSIONS:
        for shape in SHAPES:
            B, T, S = shape
            how = {"label": f"B{B}-T{T}-S{S}", "quick": shape in QUICK, "shared": version == "tiled"}
            for crops, patches in viewpoints.FORWARD:
                if version not in viewpoints.FORWARD[crops, patches]:
                    continue
                yield Case(
                    kernel=viewpoints.FORWARD[crops, patches][version].name,
                    inputs=lambda B=B, T=T, dtype=crops: {"crops": pixels(B, T, dtype)},
                    call=partial(viewpoints.gather, extent=S, version=version, dtype=patches),
                    check=is_a_copy(S),
                    **how,
                )
            yield Case(
                kernel=f"viewpoints_backward_{version}",
                inputs=lambda B=B, S=S: {
                    "gradient": np.random.default_rng(B + S).standard_normal((3, S, S, 16 * B), np.float32)
                },
                call=partial(viewpoints.gather_backward, target=T, version=version),
                check=sums_at_most_eight(T),
                **how,
            )
