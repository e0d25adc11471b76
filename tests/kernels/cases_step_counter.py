"""Cases of kernels/step_counter.cu."""

import numpy as np
from harness import Case

from gzkern.cpu import step_counter as oracle
from gzkern.cuda import step_counter

ROWS = {"first": (0.25, 0.0, 0), "later": (1e-9, 1e6, 2**40), "nan": (np.nan, 3.0, 7)}


def inputs(loss, total, step):
    return {
        "loss": np.array(loss, np.float32),
        "total": np.array([total], np.float64),
        "step": np.array([step], np.int64),
    }


def check(inputs, results):
    oracle.advance(**inputs)
    np.testing.assert_array_equal(results[1], inputs["total"])
    np.testing.assert_array_equal(results[2], inputs["step"])
    return 0.0


def cases():
    for name, row in ROWS.items():
        yield Case(
            kernel="step_counter_advance",
            label=name,
            inputs=lambda row=row: inputs(*row),
            call=step_counter.advance,
            check=check,
            mutates=("total", "step"),
            quick=True,
        )
