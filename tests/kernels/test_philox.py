"""The generator of kernels/include/philox.cuh, which dropout draws from, against its published answers."""

from pathlib import Path

import numpy as np
import pytest

from gzkern.cpu.dropout import philox
from gzkern.runtime.kernel import Geometry, Kernel

WORDS = Kernel(Path(__file__).parent / "philox.cu", "philox_words")

# Known answers of Philox 4x32-10 from the Random123 distribution (kat_vectors): counter, key, words.
KNOWN = [
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


def words(backend, counters, keys):
    n = len(counters)
    out = backend.asarray(np.zeros((n, 4), np.uint32))
    arrays = [backend.asarray(np.array(values, np.uint32)) for values in (counters, keys)]
    WORDS(backend, Geometry((1,), (n,)), *arrays, out, np.uint32(n))
    return backend.asnumpy(out)


def check(backend):
    counters, keys, answers = zip(*KNOWN, strict=True)
    np.testing.assert_array_equal(words(backend, counters, keys), np.array(answers, np.uint32))
    rng = np.random.default_rng(0)
    counters, key = rng.integers(0, 2**32, (64, 4), np.uint32), rng.integers(0, 2**32, 2, np.uint32)
    np.testing.assert_array_equal(words(backend, counters, np.tile(key, (64, 1))), philox(counters, key))


@pytest.mark.gxx
def test_emulated():
    from gzkern.runtime.emulator import backend

    check(backend)


@pytest.mark.gpu
def test_gpu():
    from gzkern.runtime.cuda_backend import backend

    check(backend())
