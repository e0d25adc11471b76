"""Cases of kernels/conv2d/forward_mma.cu."""

from functools import partial

import numpy as np
from cases_conv2d import check_exact, check_forward, exact_sums, layer, small_integers, windows
from cases_fragments import bfloat16, from_bfloat16, tf32, through_bfloat16
from harness import Case
from numerics import assert_bounded, wide

from gzkern.cpu import conv2d as oracle
from gzkern.cuda.conv2d import forward_mma as conv2d_forward_mma
from gzkern.cuda.conv2d import operation as conv2d
from gzkern.cuda.conv2d.forward_mma import Tile

# C, H, W, N, R, S, K; epilogue; of a tile M, J, warps_n, warps_k, window_rows, window_columns, parts, rows.
QUICK = [
    ((20, 5, 7, 8, 3, 2, 24), "pool", (1, 2, 1, 2, 1, 2, 2, 1)),
    ((5, 5, 6, 24, 2, 3, 24), "pool", (1, 4, 2, 1, 1, 2, 1, 1)),
]
CASES = [
    *QUICK,
    ((17, 6, 6, 40, 3, 2, 40), "relu", (1, 2, 1, 2, 1, 2, 2, 1)),
    ((1, 4, 5, 8, 3, 2, 8), "plain", (1, 2, 1, 2, 1, 2, 2, 1)),
    ((8, 4, 4, 0, 3, 2, 8), "pool", (1, 2, 1, 2, 1, 2, 2, 1)),
    ((3, 7, 8, 40, 3, 3, 40), "relu", (2, 4, 1, 1, 2, 2, 1, 1)),
    ((3, 5, 5, 8, 3, 3, 8), "plain", (2, 4, 1, 1, 2, 2, 1, 1)),
    ((3, 8, 7, 24, 3, 3, 32), "pool", (2, 4, 1, 1, 2, 2, 1, 1)),
    ((3, 9, 9, 24, 6, 6, 16), "pool", (1, 2, 1, 1, 2, 2, 1, 1)),
    ((40, 5, 7, 8, 3, 3, 40), "pool", (1, 4, 1, 1, 1, 2, 4, 3)),
    ((9, 7, 8, 16, 5, 5, 72), "pool", (2, 4, 1, 2, 2, 2, 1, 1)),
    ((24, 7, 7, 40, 2, 2, 24), "relu", (2, 4, 2, 1, 1, 1, 2, 2)),
    ((16, 8, 8, 16, 3, 3, 16), "relu", (1, 2, 1, 1, 3, 3, 1, 3)),
    ((9, 3, 9, 16, 1, 1, 40), "plain", (1, 4, 1, 2, 1, 3, 1, 1)),
]
CHOSEN = [((3, 9, 9, 8, 6, 6, 32), "pool"), ((16, 6, 6, 16, 3, 3, 8), "relu"), ((8, 4, 4, 0, 3, 3, 8), "pool")]


def as_bfloat16(inputs):
    """x and weight as bfloat16."""
    return {name: array if name == "bias" else bfloat16(array) for name, array in inputs.items()}


def from_inputs(inputs):
    return {name: from_bfloat16(array) if array.dtype == np.uint16 else array for name, array in inputs.items()}


def check(inputs, results, shape, epilogue, precision):
    """fp32x3 by the rule of float32."""
    if precision == "bf16":
        return check_bfloat16(results, shape, epilogue)
    return check_forward(inputs, results, shape, epilogue, *((tf32, 16) if precision == "tf32" else ()))


def check_bfloat16(results, shape, epilogue):
    """y, itself rounded to 8 bits; there is no code."""
    y, code = results
    assert code is None
    z, bound = exact_sums(shape, through_bfloat16, 16)
    z = z if epilogue == "plain" else np.maximum(z, 0)
    if epilogue == "pool":
        z, bound = windows(z, -np.inf).max(axis=0), windows(bound, 0.0).max(axis=0)
    return assert_bounded(from_bfloat16(y), z, bound + 2.0**-8 * (np.abs(z) + bound))


def check_numbers(inputs, results, epilogue, precision):
    """Of numbers whose sums every format has."""
    if precision == "bf16":
        y, _ = oracle.forward_oracle(
            *wide(from_inputs(inputs)).values(), activate=epilogue != "plain", pool=epilogue == "pool"
        )
        np.testing.assert_array_equal(from_bfloat16(results[0]), y)
        return 0.0
    return check_exact(inputs, results, epilogue)


def make(inputs, precision):
    return as_bfloat16(inputs()) if precision == "bf16" else inputs()


def ties():
    """Small integers: positions tie."""
    return layer((12, 7, 8, 8, 3, 2, 8), small_integers)


def nans(C, R, S):
    inputs = layer((C, 6, 6, 24, R, S, 8), small_integers)
    inputs["x"][C - 1, 5, 5, 7] = inputs["x"][0, 2, 3, 20] = np.nan
    inputs["bias"][2, 1, 1] = np.nan
    return inputs


def case(kernel, label, inputs, epilogue, precision, proof, tile=None, quick=False):
    call = partial(conv2d.convolve, version="mma", epilogue=epilogue, precision=precision, tile=tile)
    return Case(kernel, label, partial(make, inputs, precision), call, proof, quick=quick, shared=True)


def cases():
    for precision in conv2d_forward_mma.ALGORITHM.kernels:
        kernel = f"conv2d_forward_mma_{precision}"
        several = partial(case, kernel, precision=precision)
        for shape, epilogue, block in CASES:
            C, _, _, _, R, S, _ = shape
            tile = Tile(R, S, C if C < 8 and block[6] == 1 else 0, *block)
            label = f"{'x'.join(map(str, shape))}-{epilogue}"
            proof = partial(check, shape=shape, epilogue=epilogue, precision=precision)
            quick = (shape, epilogue, block) in QUICK
            yield several(label, partial(layer, shape), epilogue, proof=proof, tile=tile, quick=quick)
        for shape, epilogue in CHOSEN:
            label = f"{'x'.join(map(str, shape))}-{epilogue}-chosen"
            proof = partial(check, shape=shape, epilogue=epilogue, precision=precision)
            yield several(label, partial(layer, shape), epilogue, proof=proof)
        tile = Tile(3, 2, 0, *QUICK[0][2])
        for epilogue in ("plain", "relu", "pool"):
            proof = partial(check_numbers, epilogue=epilogue, precision=precision)
            yield several(f"ties-{epilogue}", ties, epilogue, proof=proof, tile=tile)
        proof = partial(check_numbers, epilogue="pool", precision=precision)
        yield several("nan", partial(nans, 12, 3, 2), "pool", proof=proof, tile=tile)
        yield several("nan-flat", partial(nans, 5, 2, 3), "pool", proof=proof, tile=Tile(2, 3, 5, *QUICK[1][2]))
