"""Cases of kernels/gather_batch.cu."""

from functools import partial

import numpy as np
from harness import Case, equals

from gzkern.cuda import gather_batch

QUICK = [(3, 37, 5), (2, 4, 12)]
RINGS = [
    *QUICK,
    (1, 1),
    (5, 300, 4),
    (4, 1025),
    (2, 0, 3),
    (3,),
]


def inputs(shape, step):
    """All bytes there are: NaN, infinities and denormals too."""
    batches = np.random.default_rng(shape).integers(0, 256, 4 * int(np.prod(shape)), np.uint8)
    batches = batches.view(np.float32).reshape(shape)
    return {"batches": batches, "step": np.array([step])}


def cases():
    for number, shape in enumerate(RINGS):
        for version, kernel in gather_batch.GATHER.items():
            if version == "naive" or np.prod(shape[1:]) % 4 == 0:
                yield Case(
                    kernel=kernel.name,
                    label="x".join(map(str, shape)),
                    inputs=partial(inputs, shape, step=2**33 + 5 * number),
                    call=partial(gather_batch.gather, version=version),
                    check=equals(lambda batches, step: batches[step[0] % len(batches)]),
                    quick=shape in QUICK,
                )
