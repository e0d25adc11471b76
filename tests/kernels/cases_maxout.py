"""Cases of kernels/maxout.cu."""

import numpy as np
from harness import Case, equals

from gzkern.cpu import maxout as oracle
from gzkern.cuda import maxout

SHAPES = [(1, 1), (5, 7), (3, 257), (130, 16), (4, 0)]  # units, B


def values(shape, seed):
    """Few different values, so that pieces tie; zeros of both signs, infinities, NaN."""
    choices = np.array([-np.inf, -1, -0.0, 0, 0.5, 1, 1, np.inf, np.nan], np.float32)
    return choices[np.random.default_rng(seed).integers(0, len(choices), shape)]


def cases():
    for units, B in SHAPES:
        how = {"label": f"{units}x{B}", "quick": (units, B) in SHAPES[1:3]}
        yield Case(
            kernel="maxout_forward",
            inputs=lambda shape=(2 * units, B): {"x": values(shape, 0)},
            call=maxout.forward,
            check=equals(oracle.forward),
            **how,
        )
        yield Case(
            kernel="maxout_backward",
            inputs=lambda shape=(units, B): {
                "gradient": values(shape, 1),
                "code": np.random.default_rng(2).integers(0, 4, shape, np.uint8),
            },
            call=maxout.backward,
            check=equals(oracle.backward),
            **how,
        )
