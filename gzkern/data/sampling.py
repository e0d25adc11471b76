"""Which image each training example uses (paper, training; the chunks of the original code).

The training stream is cut into chunks. Each chunk is drawn without replacement from the training images, and
independently of the others. As published a chunk has 10,000 examples, so that there are no epochs; where it has all
images, it is one.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from ..config import TrainConfig
from ..errors import InputError

_STREAM = 0x6368756E6B  # "chunk": keeps this generator apart from others of the same seed


def chunk_length(n_train: int, train: TrainConfig) -> int:
    """Count the examples in a chunk: min(train.chunk, n_train) cut to whole batches; n_train where sampling by epochs.

    Raises:
        InputError: there are fewer training images than one batch has.
    """
    if n_train < train.batch:
        raise InputError(
            f"{n_train} training images, but training needs at least one batch of {train.batch} images; "
            "add images or lower train.batch"
        )
    if train.sampling == "epochs":
        return n_train
    return min(train.chunk, n_train) // train.batch * train.batch


def example_images(seed: int, start: int, stop: int, n_train: int, length: int) -> np.ndarray:
    """Find the image of each example: (stop − start,) int64 in [0, n_train).

    A pure function of its arguments, so that a resumed run needs no state. An example's number is its 0-based
    position in the training stream.

    Args:
        seed: 0 to 2**64 − 1.
        start: the first example.
        stop: the example after the last.
        n_train: number of training images.
        length: of a chunk, see :func:`chunk_length`.
    """
    images = np.empty(stop - start, np.int64)
    at = start
    while at < stop:
        number, first = divmod(at, length)
        count = min(length - first, stop - at)
        images[at - start :][:count] = _chunk_images(seed, number, n_train, length)[first : first + count]
        at += count
    return images


@lru_cache(maxsize=2)  # the chunk in use, and the next, which a prefetching reader touches
def _chunk_images(seed: int, number: int, n_train: int, length: int) -> np.ndarray:
    # The chunk number is the high word of the counter: 2**192 draws lie between two chunks.
    bits = np.random.Philox(key=np.array([seed, _STREAM], np.uint64), counter=[0, 0, 0, number])
    images = np.random.Generator(bits).permutation(n_train)[:length]
    images.flags.writeable = False
    return images
