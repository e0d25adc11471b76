"""Cases of kernels/widen.cu: every bfloat16 number, and shapes."""

from functools import partial

import numpy as np
from harness import Case, assert_same_bits

from gzkern.bfloat16 import from_bfloat16
from gzkern.cuda import widen


def check(inputs, results):
    assert_same_bits(results[0], from_bfloat16(inputs["x"]), "the number itself")
    return 0.0


def cases():
    for shape in ((2**16,), (37, 5), (3, 0)):
        x = np.arange(np.prod(shape), dtype=np.uint16).reshape(shape)
        yield Case("widen", "x".join(map(str, shape)), partial(dict, x=x), widen.widen, check, quick=shape == (37, 5))
