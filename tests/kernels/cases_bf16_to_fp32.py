"""Cases of kernels/bf16_to_fp32.cu: every bfloat16 number, and shapes."""

from functools import partial

import numpy as np
from harness import Case, assert_same_bits

from gzkern.core.bfloat16 import from_bfloat16
from gzkern.cuda import bf16_to_fp32


def check(inputs, results):
    assert_same_bits(results[0], from_bfloat16(inputs["x"]), "the number itself")
    return 0.0


def cases():
    for shape in ((2**16,), (37, 5), (3, 0)):
        x = np.arange(np.prod(shape), dtype=np.uint16).reshape(shape)
        yield Case(
            "bf16_to_fp32",
            "x".join(map(str, shape)),
            partial(dict, x=x),
            bf16_to_fp32.convert,
            check,
            quick=shape == (37, 5),
        )
