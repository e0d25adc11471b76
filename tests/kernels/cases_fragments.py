"""Cases of fragments.cu: which lane holds which element in mma.sync, and how operands are rounded to tf32."""

from pathlib import Path

import numpy as np
from harness import Case
from numerics import assert_bounded

from gzkern.cuda.launch import Geometry, Kernel, backend_of

MMA = Kernel(Path(__file__).with_name("fragments.cu"), "fragments_mma")


def mma(a, b, c):
    backend = backend_of("fragments", a=a, b=b, c=c)
    d = backend.empty(c.shape)
    MMA(backend, Geometry((1,), (32,)), a, b, c, d)
    return d


def tf32(x):
    """Rounded to 10 bits of mantissa, ties away from zero, in float64."""
    scale = 2.0 ** (10 - np.frexp(x.astype(np.float64))[1] + 1)
    return np.copysign(np.floor(np.abs(x) * scale + 0.5), x) / scale


def check(inputs, results):
    """Sums of eight products and c: 2⁻²¹ of their magnitudes, since tensor cores cut some low bits off."""
    a, b, c = tf32(inputs["a"]), tf32(inputs["b"]), inputs["c"].astype(np.float64)
    exact, magnitude = c + a @ b, np.abs(c) + np.abs(a) @ np.abs(b)
    return assert_bounded(results[0], exact, 2.0**-21 * magnitude)


def check_exact(inputs, results):
    """Small integers: any order of summation gives the same."""
    np.testing.assert_array_equal(results[0], inputs["c"] + inputs["a"] @ inputs["b"])
    return 0.0


def normal():
    rng = np.random.default_rng(0)
    return {name: rng.standard_normal(shape, np.float32) for name, shape in SHAPES.items()}


def integers():
    """Every element of a tile different from its neighbours, so that no swap of lanes goes unseen."""
    rng = np.random.default_rng(1)
    return {name: rng.integers(-31, 32, shape).astype(np.float32) for name, shape in SHAPES.items()}


def ties():
    """Halfway between two tf32 numbers, of both signs: away from zero."""
    rng = np.random.default_rng(2)
    odd = 1 + (2 * rng.integers(0, 1024, (16, 8)) + 1) / 2048
    return {
        "a": (odd * rng.choice([-1, 1], (16, 8))).astype(np.float32),
        "b": np.eye(8, dtype=np.float32),
        "c": np.zeros((16, 8), np.float32),
    }


def check_ties(inputs, results):
    np.testing.assert_array_equal(results[0], tf32(inputs["a"]))
    return 0.0


SHAPES = {"a": (16, 8), "b": (8, 8), "c": (16, 8)}
PROOFS = {"integers": (integers, check_exact), "normal": (normal, check), "ties": (ties, check_ties)}


def cases():
    for label, (inputs, proof) in PROOFS.items():
        yield Case(kernel="fragments_mma", label=label, inputs=inputs, call=mma, check=proof, quick=True)
