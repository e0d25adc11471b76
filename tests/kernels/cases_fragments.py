"""Cases of fragments.cu and fragments_wgmma.cu: which lane holds which element, and how operands are rounded.

The products of a warpgroup also prove the descriptor of the operand in shared memory.
"""

from functools import partial
from pathlib import Path

import numpy as np
from harness import Case
from numerics import assert_bounded

from gzkern.runtime.arrays import backend_of
from gzkern.runtime.kernel import Geometry, Kernel

MMA = Kernel(Path(__file__).with_name("fragments.cu"), "fragments_mma")
BF16 = Kernel(Path(__file__).with_name("fragments.cu"), "fragments_bf16")


WGMMA = {N: Kernel(Path(__file__).with_name("fragments_wgmma.cu"), f"fragments_wgmma_{N}") for N in (16, 32, 64)}


def multiply(a, b, c, kernel, threads=32):
    backend = backend_of("fragments", a=a, b=b, c=c)
    d = backend.empty(c.shape)
    kernel(backend, Geometry((1,), (threads,)), a, b, c, d)
    return d


def tf32(x):
    """Rounded to 10 bits of mantissa, ties away from zero, in float64."""
    scale = 2.0 ** (10 - np.frexp(x.astype(np.float64))[1] + 1)
    return np.copysign(np.floor(np.abs(x) * scale + 0.5), x) / scale


def bfloat16(x):
    """The bits of float32 numbers rounded to bfloat16, ties to even."""
    bits = x.view(np.uint32).astype(np.uint64)
    return np.where(np.isnan(x), 0x7FFF, (bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)


def from_bfloat16(bits):
    return (bits.astype(np.uint32) << 16).view(np.float32)


def through_bfloat16(x):
    """Rounded to 7 bits of mantissa, ties to even, in float64."""
    return from_bfloat16(bfloat16(x.astype(np.float32))).astype(np.float64)


def check(inputs, results, rounded=tf32):
    """Sums of the products and c: 2⁻²¹ of their magnitudes, since tensor cores cut some low bits off."""
    a, b, c = rounded(inputs["a"]), rounded(inputs["b"]), inputs["c"].astype(np.float64)
    exact, magnitude = c + a @ b, np.abs(c) + np.abs(a) @ np.abs(b)
    return assert_bounded(results[0], exact, 2.0**-21 * magnitude)


def check_exact(inputs, results):
    """Small integers: any order of summation gives the same."""
    np.testing.assert_array_equal(results[0], inputs["c"] + inputs["a"] @ inputs["b"])
    return 0.0


def normal(shapes):
    rng = np.random.default_rng(0)
    return {name: rng.standard_normal(shape, np.float32) for name, shape in shapes.items()}


def integers(shapes):
    """Every element of a tile different from its neighbours, so that no swap of lanes goes unseen."""
    rng = np.random.default_rng(1)
    return {name: rng.integers(-31, 32, shape).astype(np.float32) for name, shape in shapes.items()}


def ties(shapes, bits):
    """Halfway between two numbers of so many bits of mantissa, of both signs."""
    rng = np.random.default_rng(2)
    odd = 1 + (2 * rng.integers(0, 2**bits, shapes["a"]) + 1) / 2.0 ** (bits + 1)
    return {
        "a": (odd * rng.choice([-1, 1], shapes["a"])).astype(np.float32),
        "b": np.eye(len(odd[0]), dtype=np.float32),
        "c": np.zeros(shapes["c"], np.float32),
    }


def check_ties(inputs, results, rounded=tf32):
    np.testing.assert_array_equal(results[0], rounded(inputs["a"]))
    return 0.0


TILE = {"a": (16, 8), "b": (8, 8), "c": (16, 8)}
TWO_TILES = {"a": (16, 16), "b": (16, 16), "c": (16, 16)}
PROOFS = {
    "fragments_mma": {
        "integers": (partial(integers, TILE), check_exact),
        "normal": (partial(normal, TILE), check),
        "ties": (partial(ties, TILE, 10), check_ties),
    },
    "fragments_bf16": {
        "integers": (partial(integers, TWO_TILES), check_exact),
        "normal": (partial(normal, TWO_TILES), partial(check, rounded=through_bfloat16)),
        "ties": (partial(ties, TWO_TILES, 7), partial(check_ties, rounded=through_bfloat16)),
    },
}


def cases():
    for kernel in (MMA, BF16):
        for label, (inputs, proof) in PROOFS[kernel.name].items():
            call = partial(multiply, kernel=kernel)
            yield Case(kernel.name, label, inputs, call, proof, quick=True, shared=kernel == BF16)
    for N, kernel in WGMMA.items():
        shapes = {"a": (64, 16), "b": (16, N), "c": (64, N)}
        call = partial(multiply, kernel=kernel, threads=128)
        yield Case(kernel.name, "integers", partial(integers, shapes), call, check_exact, quick=True, shared=True)
        yield Case(kernel.name, "normal", partial(normal, shapes), call, check, quick=True, shared=True)
