"""Cases of kernels/dropout.cu: the bits of the CPU device."""

from functools import partial

import numpy as np
from harness import Case, assert_same_bits

from gzkern.core.dropout_mask import DropoutMask
from gzkern.cpu import dropout as oracle
from gzkern.cuda import dropout

SHAPES = [(1,), (3,), (4,), (5,), (37, 17), (64, 16), (1029,), (2, 0)]
MASKS = {
    "half": DropoutMask(0.5, 7, 12, 1),
    "fifth": DropoutMask(0.2, 2**64 - 1, 2**62 + 3, 2**32 - 1),
    "none": DropoutMask(0.0, 0, 0, 0),
}


def values(shape):
    rng = np.random.default_rng(shape)
    x = rng.standard_normal(shape, np.float32)
    for special in (-0.0, np.inf, np.nan):
        x[rng.random(shape) < 0.05] = special
    return x


def equals(mask):
    def check(inputs, results):
        with np.errstate(invalid="ignore"):  # ∞ · 0
            want = oracle.forward_oracle(inputs["array"], mask)
        number = ~np.isnan(want)
        assert_same_bits(np.isnan(results[0]), ~number, "NaN")
        assert_same_bits(results[0][number], want[number], "the CPU device")
        return 0.0

    return check


def cases():
    for shape in SHAPES:
        for version in ("naive",) if np.prod(shape) % 4 else ("naive", "vectorised"):
            for name, mask in MASKS.items():
                yield Case(
                    kernel=f"dropout_{version}",
                    label=f"{'x'.join(map(str, shape))}-{name}",
                    inputs=lambda shape=shape: {"array": values(shape)},
                    call=partial(dropout.apply, "x", mask=mask, version=version),
                    check=equals(mask),
                    quick=shape in ((5,), (64, 16)),
                )
