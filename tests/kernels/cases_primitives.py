"""Cases of primitives.cu: that the emulated device and a GPU mean the same by what kernels take from CUDA."""

from pathlib import Path

import numpy as np
from harness import Case

from gzkern.runtime.arrays import backend_of
from gzkern.runtime.kernel import Geometry, Kernel

FILE = Path(__file__).with_name("primitives.cu")
THREADS = 64
LANES = np.arange(THREADS) % 32
WARPS = np.arange(THREADS) - LANES


def shuffles(x):
    """PTX: a lane reads its own value where the source lies beyond its segment (xor: in a later one)."""
    y = np.empty((32, 5, 4, THREADS), np.int32)
    for d in range(32):
        for w in range(5):
            width = 2 << w
            begin = LANES & -width
            end = begin + width
            up, down, xor = LANES - d % width, LANES + d % width, LANES ^ d
            sources = (
                begin + d % width,
                np.where(up < begin, LANES, up),
                np.where(down >= end, LANES, down),
                np.where(xor >= end, LANES, xor),
            )
            for kind, source in enumerate(sources):
                y[d, w, kind] = x[WARPS + source]
    return (y,)


def shuffled_types(x):
    thread = np.arange(THREADS)
    halves = np.where(LANES < 16, x[thread ^ 2], x[thread ^ 8])
    return (np.stack([x[thread ^ 1].astype(np.float32), x[thread ^ 2], np.trunc(x[thread ^ 4]), halves]),)


def over_warps(x, function):
    return np.concatenate([np.full(32, function(warp)) for warp in x.reshape(2, 32)])


def ballot(bits):
    return over_warps(bits, lambda warp: (warp.astype(np.uint64) << np.arange(32, dtype=np.uint64)).sum())


def votes(x):
    odd = LANES % 2 == 1
    apart = np.where(odd, ballot((x > 1) & odd), ballot((x > 2) & ~odd))
    return (np.stack([ballot(x > 0), over_warps(x > 5, np.any), over_warps(x > -5, np.all), apart]).astype(np.uint32),)


def reductions(x):
    word = x.view(np.uint32)
    odd = np.where(LANES % 2 == 1, over_warps(np.where(LANES % 2 == 1, word, 0), sum32), 0)
    rows = [over_warps(word, sum32), over_warps(x, np.min), over_warps(x, np.max)]
    rows += [over_warps(word, f) for f in (np.min, np.max)]
    rows += [over_warps(word, f.reduce) for f in (np.bitwise_and, np.bitwise_or, np.bitwise_xor)]
    return (np.stack([row.astype(np.uint32) for row in [*rows, odd]]).view(np.int32),)


def sum32(values):
    return np.uint32(int(values.astype(np.int64).sum()) & 0xFFFFFFFF)


def barriers(x):
    positive = x > 0
    rows = [positive.sum(), True, positive.all(), positive.any(), False]
    return (np.repeat(np.array(rows, np.int32)[:, None], THREADS, 1),)


def atomics(x, counters, unsigneds, longs, floats):
    """What is returned, then what is updated in place."""
    word, wide = x.view(np.uint32), x.astype(np.int64)
    updated = [
        counters[0] + x.sum(),
        counters[1] - x.sum(),
        min(counters[2], x.min()),
        max(counters[3], x.max()),
        counters[4] | np.bitwise_or.reduce(x),
        counters[5] & np.bitwise_and.reduce(x),
        counters[6] ^ np.bitwise_xor.reduce(x),
        7,
        9,
    ]
    return (
        np.ones(len(x), np.int32),
        np.array(updated, np.int32),
        np.array([len(x), word.min(), word.max()], np.uint32),
        np.array([longs[0] + (len(x) << 40), wide.max() << 20], np.int64),
        floats + x.sum(),
    )


def bits(x):
    """In Python's integers, of which 32 bits are kept."""

    def signed(v):
        return v - (v >> 31 << 32)

    def ones(v):
        return v.bit_count()

    def leading(v, width=32):
        return width - v.bit_length()

    def lowest(v):
        return (v & -v).bit_length()

    columns = []
    for a, b in zip(x.tolist(), np.roll(x, -1).tolist(), strict=True):
        both = a << 32 | b
        doubled = (np.array(a & 0x3FFFFFFF, np.uint32).view(np.float32) * 2).view(np.uint32).item()
        column = [ones(a), leading(a), lowest(a), int(f"{a:032b}"[::-1], 2), a * b >> 32, signed(a) * signed(b) >> 32]
        column += [both * both >> 64, ones(both) + leading(both, 64) + lowest(both), doubled, doubled]
        column += [min(a, b), max(a, b), min(signed(a), signed(b)), max(signed(a), signed(b)), min(a, b)]
        columns.append([value & 0xFFFFFFFF for value in column])
    return (np.array(columns, np.uint32).T,)


def floats(x):
    a, b = x, np.roll(x, -1)
    wide_a, wide_b = a.astype(np.float64), b.astype(np.float64)
    with np.errstate(all="ignore"):
        small = np.where(np.abs(a) < 100, a, 0)
        rows = [
            np.fmin(a, b),
            np.fmax(a, b),
            np.where(a > 0, np.minimum(a, 1), 0),
            np.isnan(a) + 2 * np.isinf(a) + 4 * np.isfinite(a) + 8 * np.signbit(a),
            wide_a * wide_b - wide_a,
            wide_a * wide_b + wide_b,
            a * b + a,
            np.rint(small) + 10 * np.trunc(small) + 100 * np.floor(small),
            a,
            np.sqrt(np.abs(a)),
            a / b,
        ]
        return (np.stack([row.astype(np.float32) for row in rows]),)


def templates(x):
    mirrored = x[::-1]
    return ((mirrored + 100) + 2 * (mirrored + 101) + 3 * (mirrored + 100),)


def copies(x):
    padded = np.zeros(4 * THREADS, np.float32)
    padded[: len(x)] = x
    return (np.concatenate([padded[:THREADS][::-1], padded[: 2 * THREADS][::-1], padded[::-1]]),)


def vectors(x, u):
    pairs = x[: 2 * THREADS].reshape(-1, 2)
    sizes = 12 + 16 + 8 + 4 + 16 + 4 + 16  # of types, as the kernel adds them up
    whole = pairs.astype(np.int32) @ [1, 2] + 3 + sizes
    y = np.concatenate([x.reshape(-1, 4)[:, ::-1].ravel(), pairs[:, ::-1].ravel(), whole.astype(np.float32)])
    return y, u.reshape(-1, 4)[:, ::-1].ravel()


GRID, BLOCK = (3, 2, 2), (4, 3, 2)
SCALARS = (
    np.bool_(True),
    np.int8(-7),
    np.uint8(200),
    np.int16(-3000),
    np.uint16(60000),
    np.int32(-(2**30)),
    np.uint32(2**32 - 5),
    np.int64(-(2**50)),
    np.uint64(2**63),
    np.float32(0.1),
    np.float64(0.1),
)


def indices(x):
    where = [(*block, *thread) for block in np.ndindex(GRID[::-1]) for thread in np.ndindex(BLOCK[::-1])]
    return (x + np.array(where, np.uint32),)


def scalars(x):
    return (x + np.array(SCALARS, np.float64),)


def case(subject, inputs, expected, scalars=(), mutates=(), grid=(1,), block=(THREADS,), dynamic=0):
    """A launch on the inputs, outputs as ``expected`` returns them, and the scalars, in this order."""
    outputs = expected(**inputs)[: None if not mutates else -len(mutates)]
    kernel = Kernel(FILE, f"primitives_{subject}")

    def call(**arrays):
        backend = backend_of("primitives", {name: array.dtype for name, array in arrays.items()}, **arrays)
        results = tuple(backend.empty(output.shape, output.dtype) for output in outputs)
        if subject == "atomics":
            results[0].fill(0)
        kernel(backend, Geometry(grid, block, dynamic), *arrays.values(), *results, *scalars)
        return results

    def check(arrays, results):
        for got, exact in zip(results, expected(**arrays), strict=True):
            np.testing.assert_array_equal(got, exact)
        return 0.0

    return Case(kernel.name, "all", lambda: inputs, call, check, mutates, quick=True, shared=True)


def cases():
    rng = np.random.default_rng(0)

    def integers(low, high, size=THREADS, dtype=np.int32):
        return rng.integers(low, high, size).astype(dtype)

    any_bits = {"x": integers(-(2**31), 2**31)}
    small = {"x": integers(-5, 6)}
    yield case("shuffles", any_bits, shuffles)
    yield case("shuffled_types", {"x": 1e6 * rng.standard_normal(THREADS)}, shuffled_types)
    yield case("votes", small, votes)
    yield case("reductions", any_bits, reductions)
    yield case("barriers", small, barriers)
    counters = {
        "counters": np.array([1, 2, 3, 4, 5, -1, 7, 8, 8], np.int32),
        "unsigneds": np.array([0, 2**31, 5], np.uint32),
        "longs": np.array([1, -1], np.int64),
        "floats": np.array([3], np.float32),
    }
    values = {"x": integers(-1000, 1000, 3 * THREADS)}
    yield case("atomics", values | counters, atomics, mutates=tuple(counters), grid=(3,))
    words = integers(0, 2**32, 90, np.uint32)
    numbers = [word for word in words if 1 < word >> 23 & 0x7F < 0x7E]  # normal, as floats, when doubled
    x = np.array([0x00800000, 0x3F800000, 0x80800000, 0xFFFFFFFF, *numbers], np.uint32)[:64]
    x[3] = 0xFF7FFFFF
    yield case("bits", {"x": x}, bits, scalars=[np.uint32(len(x))])
    special = [0.0, -0.0, 1, -1, 0.5, -0.5, 2.5, np.inf, 0.25, -np.inf, np.nan, 3, -2.5, 1.5, 1e4, -3e4]
    x = np.array([*special, *rng.standard_normal(48)], np.float32)
    yield case("floats", {"x": x}, floats, scalars=[np.uint32(len(x))])
    square = {"x": rng.standard_normal((32, 32), np.float32)}
    memory = 32 * 33 * 4
    yield case("transpose", square, lambda x: (x.T, x.T), block=(32, 32), dynamic=memory)
    yield case("templates", {"x": integers(-9, 9, dtype=np.float32)}, templates)
    x = rng.standard_normal(51, np.float32)
    yield case("copies", {"x": x}, copies, scalars=[np.uint32(len(x))])
    numbers = {"x": integers(-99, 99, 4 * THREADS, np.float32), "u": integers(0, 256, 4 * THREADS, np.uint8)}
    yield case("vectors", numbers, vectors)
    yield case("indices", {"x": np.zeros((288, 6), np.uint32)}, indices, grid=GRID, block=BLOCK)
    yield case("scalars", {"x": np.zeros(len(SCALARS))}, scalars, scalars=SCALARS, block=(1,))
