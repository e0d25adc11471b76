"""Dropout from a counter-based generator: no state, the same mask on every device; see ``core.dropout_mask``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import SupportsInt

import numpy as np

from ..core import arguments
from ..core.dropout_mask import DropoutMask

_LOW = np.uint64(0xFFFFFFFF)
_SHIFT = np.uint64(32)
_MULTIPLIERS = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_WEYL = 0x9E3779B9, 0xBB67AE85
_ROUNDS = 10


def forward(x: np.ndarray, mask: DropoutMask) -> np.ndarray:
    """x of any shape with the elements of the mask dropped and the rest rescaled."""
    arguments.host_arrays("dropout", x=x)
    return x * multiplier(x, mask)


def forward_oracle(x: np.ndarray, mask: DropoutMask) -> np.ndarray:
    """:func:`forward` in plain NumPy; any dtype."""
    kept = words_oracle(x.size, mask).reshape(x.shape) >= mask.threshold
    return x * np.where(kept, x.dtype.type(mask.scale), x.dtype.type(0))


def backward(gradient: np.ndarray, mask: DropoutMask) -> np.ndarray:
    """The gradient by the same multiplier."""
    arguments.host_arrays("dropout", gradient=gradient)
    return gradient * multiplier(gradient, mask)


def multiplier(x: np.ndarray, mask: DropoutMask) -> np.ndarray:
    """The factor of each element of x, 0 or ``mask.scale``, in the shape and dtype of x."""
    random = words(x.size, mask) if x.dtype == np.float32 else words_oracle(x.size, mask)
    return np.where(random >= mask.threshold, x.dtype.type(mask.scale), x.dtype.type(0)).reshape(x.shape)


def words(size: int, mask: DropoutMask) -> np.ndarray:
    """:func:`words_oracle`, compiled."""
    from .jit.philox import words as compiled

    out = np.empty(size, np.uint32)
    compiled(np.uint64(mask.seed), np.uint64(mask.number), np.uint64(mask.layer), out)
    return out


def words_oracle(size: int, mask: DropoutMask) -> np.ndarray:
    """(size,) uint32: the random words of the first ``size`` elements."""
    counter = np.empty(((size + 3) // 4, 4), np.uint32)
    counter[:, 0] = np.arange(len(counter))
    counter[:, 1:] = mask.counter
    return philox(counter, mask.key).reshape(-1)[:size]


def philox(counter: np.ndarray, key: Sequence[SupportsInt]) -> np.ndarray:
    """Philox 4x32-10: (…, 4) uint32 counters and two 32-bit key words to (…, 4) uint32 random words."""
    c0, c1, c2, c3 = (counter[..., word].astype(np.uint64) for word in range(4))
    k0, k1 = int(key[0]), int(key[1])
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
