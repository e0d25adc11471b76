import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from data_files import SIDE, picture, write_images

from gzkern.data.encoded import EncodedImages
from gzkern.data.images import decode
from gzkern.data.stamp import stamp_of
from gzkern.errors import GzkernError

COUNT = 7


@pytest.fixture
def files(tmp_path):
    write_images(tmp_path / "images", [str(i) for i in range(COUNT)])
    return [tmp_path / "images" / f"{i}.jpg" for i in range(COUNT)]


@pytest.fixture
def encoded(files):
    return EncodedImages(files, [stamp_of(path) for path in files], (SIDE, SIDE, 3))


@pytest.fixture
def decoded(files):
    return np.stack([decode(path, smallest=1) for path in files])


def test_it_is_indexed_like_the_array(encoded, decoded):
    assert (encoded.shape, encoded.nbytes, len(encoded)) == (decoded.shape, decoded.nbytes, len(decoded))
    indices = (
        np.array([3, 0, 3, 6]),
        np.array([-1]),
        np.array([], np.int64),
        [2, 5],
        slice(1, 6, 2),
        slice(None),
        4,
        -7,
    )
    for index in indices:
        image = encoded[index]
        assert image.dtype == np.uint8
        np.testing.assert_array_equal(image, decoded[index])
    np.testing.assert_array_equal(list(encoded), decoded)


@pytest.mark.parametrize("index", [COUNT, -COUNT - 1, [0, COUNT], np.array([COUNT])])
def test_no_such_image(encoded, index):
    with pytest.raises(IndexError):
        encoded[index]


def test_none(tmp_path):
    empty = EncodedImages([], [], (SIDE, SIDE, 3))
    assert (empty.shape, empty.nbytes, len(empty)) == ((0, SIDE, SIDE, 3), 0, 0)
    assert empty[:].shape == (0, SIDE, SIDE, 3)


def test_threads_share_it(encoded, decoded):
    draws = np.random.default_rng(0).integers(0, COUNT, (100, 5))
    with ThreadPoolExecutor(8) as pool:
        for draw, images in zip(draws, pool.map(encoded.__getitem__, draws), strict=True):
            np.testing.assert_array_equal(images, decoded[draw])


def test_a_file_that_is_not_what_it_was(encoded, files, decoded):
    def assert_refused(row, message):
        with pytest.raises(GzkernError, match=f"^{files[row]}: {message}"):
            encoded[np.array([6, row])]
        np.testing.assert_array_equal(encoded[6], decoded[6])

    files[0].unlink()
    assert_refused(0, "no such file, but it could be read when the data set was opened")
    files[1].write_bytes(files[1].read_bytes()[:-300])
    assert_refused(1, "truncated after")
    picture(9).save(files[2])
    assert_refused(2, "was changed since the data set was opened; start again")
    picture(9, 64, 64).save(files[3])
    assert_refused(3, "was changed")
    os.utime(files[4], (0, 0))
    assert_refused(4, "was changed")
