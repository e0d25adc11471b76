"""Philox 4x32-10, compiled; see gzkern.cpu.dropout for the numbering of counters and keys."""
# mypy: disable-error-code="no-untyped-def"

import numpy as np

from . import compiled

_LOW = np.uint64(0xFFFFFFFF)
_SHIFT = np.uint64(32)
_M0, _M1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_W0, _W1 = np.uint64(0x9E3779B9), np.uint64(0xBB67AE85)


@compiled()
def words(seed, step, layer, out):
    """Fill out (size,) uint32 with the random words of elements 0 … size−1; seed, step and layer are uint64."""
    for block in range((out.size + 3) // 4):
        c0, c1 = np.uint64(block), layer
        c2, c3 = step & _LOW, step >> _SHIFT
        k0, k1 = seed & _LOW, seed >> _SHIFT
        for _ in range(10):
            first, second = c0 * _M0, c2 * _M1
            c0 = (second >> _SHIFT) ^ c1 ^ k0
            c1 = second & _LOW
            c2 = (first >> _SHIFT) ^ c3 ^ k1
            c3 = first & _LOW
            k0, k1 = (k0 + _W0) & _LOW, (k1 + _W1) & _LOW
        element = 4 * block
        for word in (c0, c1, c2, c3):
            if element < out.size:
                out[element] = np.uint32(word)
            element += 1
