"""Cases of kernels/nan_guard.cu."""

from functools import partial

import numpy as np
from harness import Case

from gzkern.cpu import nan_guard as oracle
from gzkern.cuda import nan_guard

STEP = 2**40 + 7
LARGEST = np.finfo(np.float32).max
# Shape, bad values by position, what was stored before.
ROWS = {
    "loss": ((), {}, -1),
    "loss-nan": ((), {0: np.nan}, -1),
    "good": ((3, 300), {0: LARGEST, 7: -LARGEST, 899: 1e-45}, -1),
    "first": ((259,), {0: np.inf}, -1),
    "last": ((259,), {258: -np.inf}, -1),
    "many": ((700,), dict.fromkeys(range(0, 700, 3), np.nan), -1),
    "before": ((259,), {5: np.nan}, 0),
    "empty": ((0,), {}, -1),
}


def inputs(shape, special, stored):
    values = np.random.default_rng(0).standard_normal(shape, np.float32)
    values = np.asarray(values, np.float32)
    for position, value in special.items():
        values.reshape(-1)[position] = value
    return {"values": values, "first_bad": np.array([stored], np.int64)}


def check(inputs, results):
    oracle.check(inputs["values"], STEP, inputs["first_bad"])
    np.testing.assert_array_equal(results[1], inputs["first_bad"])
    return 0.0


def cases():
    for name, row in ROWS.items():
        yield Case(
            kernel="nan_guard_check",
            label=name,
            inputs=partial(inputs, *row),
            call=partial(nan_guard.check, step=STEP),
            check=check,
            mutates=("first_bad",),
            quick=name in ("loss-nan", "good", "many"),
            shared=name == "many",  # not memory: a store by many threads
        )
