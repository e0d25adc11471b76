from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gzkern.data.sampling import chunk_length, example_images
from gzkern.errors import InputError

SIZES = {"n_train": 103, "chunk": 50, "batch": 16}
LENGTH = 48


def chunk_of(seed, number, **sizes):
    length = chunk_length(**(SIZES | sizes))
    return example_images(seed, number * length, (number + 1) * length, **(SIZES | sizes))


@pytest.mark.parametrize(
    ("n_train", "chunk", "batch", "length"),
    [(55_421, 10_000, 16, 10_000), (868, 10_000, 16, 864), (16, 10_000, 16, 16), (103, 50, 16, 48)],
)
def test_chunk_length(n_train, chunk, batch, length):
    assert chunk_length(n_train, chunk, batch) == length


def test_too_few_images():
    with pytest.raises(InputError, match=r"15 training images.* at least one batch of 16 images"):
        chunk_length(15, 10_000, 16)
    with pytest.raises(InputError, match=r"train\.chunk = 8: expected at least train\.batch = 16"):
        example_images(0, 0, 16, n_train=100, chunk=8, batch=16)


def test_a_chunk_is_drawn_without_replacement_from_all_images():
    chunks = [chunk_of(5, number) for number in range(40)]
    for images in chunks:
        assert images.dtype == np.int64
        assert len(set(images)) == LENGTH
    assert set(np.concatenate(chunks)) == set(range(103))


def test_chunks_are_independent():
    # The overlap of two draws of 48 from 103 has mean 22.4 and standard deviation 2.5.
    chunks = [set(chunk_of(5, number)) for number in range(200)]
    overlaps = [len(a & b) for a, b in pairwise(chunks)]
    assert abs(np.mean(overlaps) - 48 * 48 / 103) < 0.7
    assert min(overlaps) < 22 < max(overlaps)


def test_seed_and_chunk_number_decide():
    np.testing.assert_array_equal(chunk_of(5, 1), chunk_of(5, 1))
    assert not np.array_equal(chunk_of(5, 0), chunk_of(5, 1))
    assert not np.array_equal(chunk_of(5, 0), chunk_of(6, 0))
    assert not np.array_equal(chunk_of(0, 2500), chunk_of(2**64 - 1, 2500))


@settings(max_examples=60, deadline=None)
@given(cuts=st.lists(st.integers(0, 200), max_size=6))
def test_how_the_stream_is_cut_does_not_matter(cuts):
    whole = example_images(9, 0, 200, **SIZES)
    edges = [0, *sorted(cuts), 200]
    parts = [example_images(9, a, b, **SIZES) for a, b in pairwise(edges)]
    np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_the_caller_may_change_what_it_gets():
    first = example_images(9, 0, 16, **SIZES)
    kept = first.copy()
    first[:] = -1
    np.testing.assert_array_equal(example_images(9, 0, 16, **SIZES), kept)


def test_far_into_a_run():
    images = example_images(1, 24_999_990, 25_000_010, n_train=55_421, chunk=10_000, batch=16)
    assert len(images) == 20
    assert images.min() >= 0
    assert images.max() < 55_421
