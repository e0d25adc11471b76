from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gzkern.config import TrainConfig
from gzkern.data.sampling import chunk_length, example_images
from gzkern.errors import InputError

COUNT, LENGTH = 103, 48


def chunk_of(seed, number, length=LENGTH):
    return example_images(seed, number * length, (number + 1) * length, COUNT, length)


@pytest.mark.parametrize(
    ("n_train", "chunk", "batch", "length"),
    [(55_421, 10_000, 16, 10_000), (868, 10_000, 16, 864), (16, 10_000, 16, 16), (103, 50, 16, 48)],
)
def test_chunk_length(n_train, chunk, batch, length):
    assert chunk_length(n_train, TrainConfig(chunk=chunk, batch=batch)) == length
    assert chunk_length(n_train, TrainConfig(chunk=chunk, batch=batch, sampling="epochs")) == n_train


@pytest.mark.parametrize("sampling", ["chunks", "epochs"])
def test_too_few_images(sampling):
    with pytest.raises(InputError, match=r"15 training images.* at least one batch of 16 images"):
        chunk_length(15, TrainConfig(sampling=sampling))


def test_a_chunk_is_drawn_without_replacement_from_all_images():
    chunks = [chunk_of(5, number) for number in range(40)]
    for images in chunks:
        assert images.dtype == np.int64
        assert len(set(images)) == LENGTH
    assert set(np.concatenate(chunks)) == set(range(COUNT))


def test_an_epoch_has_every_image_once_in_an_order_of_its_own():
    epochs = [chunk_of(5, number, COUNT) for number in range(4)]
    for images in epochs:
        np.testing.assert_array_equal(np.sort(images), np.arange(COUNT))
    assert not any(np.array_equal(a, b) for a, b in pairwise(epochs))
    batches = [example_images(5, start, start + 16, COUNT, COUNT) for start in range(0, 400, 16)]
    np.testing.assert_array_equal(np.concatenate(batches), np.concatenate(epochs)[:400])


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
    whole = example_images(9, 0, 200, COUNT, LENGTH)
    edges = [0, *sorted(cuts), 200]
    parts = [example_images(9, a, b, COUNT, LENGTH) for a, b in pairwise(edges)]
    np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_the_caller_may_change_what_it_gets():
    first = example_images(9, 0, 16, COUNT, LENGTH)
    kept = first.copy()
    first[:] = -1
    np.testing.assert_array_equal(example_images(9, 0, 16, COUNT, LENGTH), kept)


def test_far_into_a_run():
    images = example_images(1, 24_999_990, 25_000_010, 55_421, 10_000)
    assert len(images) == 20
    assert images.min() >= 0
    assert images.max() < 55_421
