"""Dropout: the published Philox vectors, both implementations alike, the distribution, the gradient."""

import numpy as np
import pytest

from gzkern.autograd.gradcheck import check_gradients
from gzkern.core.dropout_mask import DropoutMask
from gzkern.cpu import dropout
from gzkern.device import select
from gzkern.ops.dropout import dropout as dropout_op

# Known answers of Philox 4x32-10 from the Random123 distribution (kat_vectors).
KNOWN = [
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


@pytest.mark.parametrize(("counter", "key", "words"), KNOWN)
def test_philox_known_answers(counter, key, words):
    got = dropout.philox(np.array([counter], np.uint32), key)
    assert tuple(map(int, got[0])) == words


@pytest.mark.parametrize("size", [0, 1, 3, 4, 5, 1000])
def test_compiled_words_equal_the_oracle(size):
    for mask in (DropoutMask(0.5, 0, 0, 0), DropoutMask(0.5, 7, 12, 1), DropoutMask(0.5, 2**64 - 1, 2**40 + 3, 3)):
        np.testing.assert_array_equal(dropout.words(size, mask), dropout.words_oracle(size, mask))


def test_mask_is_the_same_in_every_dtype_and_keeps_the_mean():
    mask = DropoutMask(0.2, 3, 5, 1)
    x = np.ones((400, 250))
    y = dropout.forward(x, mask)
    single = dropout.forward(x.astype(np.float32), mask)
    np.testing.assert_array_equal(y != 0, single != 0)
    np.testing.assert_array_equal(dropout.backward(x, mask), y)
    assert set(np.unique(y)) == {0, 1.25}
    assert abs((y == 0).mean() - 0.2) < 5 * np.sqrt(0.2 * 0.8 / x.size)


def test_masks_differ_by_seed_step_and_layer():
    keys = [(1, 1, 1), (2, 1, 1), (1, 2, 1), (1, 1, 2)]
    masks = [dropout.multiplier(np.ones(512), DropoutMask(0.5, *key)) for key in keys]
    for i, a in enumerate(masks):
        for b in masks[:i]:
            assert 0.35 < (a == b).mean() < 0.65


def test_by_finite_differences():
    x = np.random.default_rng(0).standard_normal((6, 7))
    check_gradients(lambda tape, v: dropout_op(tape, v, DropoutMask(0.5, 1, 2, 3)), [x], select("cpu"))
