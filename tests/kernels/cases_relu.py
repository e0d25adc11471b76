"""Cases of kernels/relu.cu."""

import numpy as np
from harness import Case, equals

from gzkern.cpu import relu as oracle
from gzkern.cuda import relu

SHAPES = [(1,), (255,), (257,), (3, 5, 7, 11), (2, 0, 3)]


def values(shape, seed):
    """Normal values with some zeros, negative zeros and NaN among them."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(shape, np.float32)
    x[rng.random(shape) < 0.1] = 0
    x[rng.random(shape) < 0.1] = -0.0
    x[rng.random(shape) < 0.05] = np.nan
    return x


def cases():
    for shape in SHAPES:
        label = "x".join(map(str, shape))
        yield Case(
            kernel="relu_forward",
            label=label,
            inputs=lambda shape=shape: {"x": values(shape, 0)},
            call=relu.forward,
            check=equals(oracle.forward),
            quick=shape == (257,),
        )
        yield Case(
            kernel="relu_backward",
            label=label,
            inputs=lambda shape=shape: {"gradient": values(shape, 1), "y": values(shape, 2)},
            call=relu.backward,
            check=equals(oracle.backward),
            quick=shape == (257,),
        )
