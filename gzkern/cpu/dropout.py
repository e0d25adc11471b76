"""Dropout from a counter-based generator: no state, the same mask on every device (Srivastava et al. 2014).

Element i of layer l at step t takes word i mod 4 of Philox 4x32-10 (Salmon et al. 2011, Random123) with counter
(i div 4, l, t low, t high) and key (seed low, seed high), and is dropped where that word < probability · 2³².
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

_LOW = np.uint64(0xFFFFFFFF)
_SHIFT = np.uint64(32)
_MULTIPLIERS = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_WEYL = 0x9E3779B9, 0xBB67AE85
_ROUNDS = 10


class Key(NamedTuple):
    """What a mask is a function of: the run's seed, the training step, the number of the dense layer."""

    seed: int
    step: int
    layer: int


def philox(counter: np.ndarray, key: tuple[int, int]) -> np.ndarray:
    """Philox 4x32-10: (…, 4) uint32 counters and two 32-bit key words to (…, 4) uint32 random words."""
    c0, c1, c2, c3 = (counter[..., word].astype(np.uint64) for word in range(4))
    k0, k1 = key
    for _ in range(_ROUNDS):
        first, second = c0 * _MULTIPLIERS[0], c2 * _MULTIPLIERS[1]
        c0, c1, c2, c3 = (
            (second >> _SHIFT) ^ c1 ^ np.uint64(k0),
            second & _LOW,
            (first >> _SHIFT) ^ c3 ^ np.uint64(k1),
            first & _LOW,
        )
        k0, k1 = (k0 + _WEYL[0]) & 0xFFFFFFFF, (k1 + _WEYL[1]) & 0xFFFFFFFF
    return np.stack([c0, c1, c2, c3], axis=-1).astype(np.uint32)


def words_oracle(size: int, key: Key) -> np.ndarray:
    """(size,) uint32: the random words of the first ``size`` elements."""
    counter = np.empty(((size + 3) // 4, 4), np.uint32)
    counter[:, 0] = np.arange(len(counter))
    counter[:, 1] = key.layer
    counter[:, 2], counter[:, 3] = key.step & 0xFFFFFFFF, key.step >> 32
    return philox(counter, (key.seed & 0xFFFFFFFF, key.seed >> 32)).reshape(-1)[:size]


def words(size: int, key: Key) -> np.ndarray:
    """:func:`words_oracle`, compiled."""
    from .jit.philox import words as compiled

    out = np.empty(size, np.uint32)
    compiled(np.uint64(key.seed), np.uint64(key.step), np.uint64(key.layer), out)
    return out


def mask(x: np.ndarray, probability: float, key: Key) -> np.ndarray:
    """What dropout multiplies x by, of its shape and dtype: 0 with ``probability``, else 1 / (1 − probability)."""
    random = words(x.size, key) if x.dtype == np.float32 else words_oracle(x.size, key)
    kept = random >= np.uint32(min(round(probability * 2**32), 2**32 - 1))
    return np.where(kept, x.dtype.type(1 / (1 - probability)), x.dtype.type(0)).reshape(x.shape)


def forward(x: np.ndarray, probability: float, key: Key) -> tuple[np.ndarray, np.ndarray]:
    """Dropped and rescaled x, and the multiplier that the backward pass applies again; 0 ≤ probability < 1."""
    multiplier = mask(x, probability, key)
    return x * multiplier, multiplier


def backward(gradient: np.ndarray, multiplier: np.ndarray) -> np.ndarray:
    """The gradient times the multiplier of the forward pass."""
    return gradient * multiplier
