"""The share of Python outside of the operations."""

import numpy as np

from benchmarks.harness.python_share import python_share
from gzkern.cpu import relu


def test_the_python_share_counts_what_is_outside_of_operations():
    x = np.ones(1 << 22, np.float32)
    assert python_share(lambda: relu.forward(x)) < 0.1
    assert python_share(lambda: np.maximum(x, 0)) == 1
    assert not hasattr(relu.forward, "__wrapped__")
