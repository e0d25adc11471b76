"""Cases of kernels/take.cu."""

from functools import partial

import numpy as np
from harness import Case, equals

from gzkern.cuda import take

QUICK = [((3, 37, 5), "float32"), ((2, 4, 12), "float32"), ((3, 7, 11), "uint8"), ((2, 5, 16), "uint8")]
RINGS = [
    *QUICK,
    ((1, 1), "float32"),
    ((5, 300, 4), "float32"),
    ((4, 1025), "uint8"),
    ((2, 0, 3), "float32"),
    ((3,), "float32"),
]


def inputs(shape, dtype, step):
    """All bytes there are: of float32 NaN, infinities and denormals too."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    ring = np.random.default_rng(shape).integers(0, 256, size, np.uint8).view(dtype).reshape(shape)
    return {"ring": ring, "step": np.array([step])}


def cases():
    for number, (shape, dtype) in enumerate(RINGS):
        size = int(np.prod(shape[1:])) * np.dtype(dtype).itemsize
        for version, kernel in take.TAKE[dtype].items():
            if version == "naive" or size % 16 == 0:
                yield Case(
                    kernel=kernel.name,
                    label=f"{'x'.join(map(str, shape))}-{dtype}",
                    inputs=partial(inputs, shape, dtype, step=2**33 + 5 * number),
                    call=partial(take.take, version=version),
                    check=equals(lambda ring, step: ring[step[0] % len(ring)]),
                    quick=(shape, dtype) in QUICK,
                )
