import math

import numpy as np
import pytest
from data_files import SIDE, TREE, kaggle_folder, picture, real_sample, write_images

from gzkern.data import opening
from gzkern.data.dataset import split
from gzkern.data.encoded import EncodedImages
from gzkern.data.opening import open_dataset
from gzkern.data.pack import open_pack, pack
from gzkern.decision_trees.tree import load_tree
from gzkern.errors import InputError


def pack_of(root, out, crop=None):
    summary = pack(
        root / "images_training_rev1",
        root / "training_solutions_rev1.csv",
        out,
        TREE,
        smallest=SIDE,
        crop=crop,
        progress=False,
    )
    assert summary.path == out
    return out


def opened(path, tree=TREE, smallest=SIDE, reach=0.0):
    return open_dataset(path, tree, smallest=smallest, reach=reach, progress=False)


def test_a_folder_and_its_pack_are_one_data_set(tmp_path):
    root = kaggle_folder(tmp_path)
    images = root / "images_training_rev1"
    (images / "103.jpg").write_bytes(b"")
    (images / "104.jpg").unlink()
    (images / "stray.png").touch()
    folder, packed = opened(root), opened(pack_of(root, tmp_path / "pack"))
    assert folder.ids == packed.ids == ("101", "102", *(str(i) for i in range(105, 113)))
    assert len(folder) == 10
    np.testing.assert_array_equal(folder.images, packed.images)
    np.testing.assert_array_equal(folder.labels, packed.labels)
    assert folder.fingerprint == packed.fingerprint
    assert packed.quarantined == ()  # said when the pack was made, and kept in quarantine.csv
    assert folder.quarantined == open_pack(tmp_path / "pack").quarantined
    assert {q.id: q.reason for q in folder.quarantined} == {
        "103": "empty file",
        "104": "no image file",
        "stray": "its name is not an id of the label file",
    }


def test_fingerprint_tells_data_sets_apart(tmp_path):
    a = opened(kaggle_folder(tmp_path / "a", 12))
    b = opened(kaggle_folder(tmp_path / "b", 11))
    root = kaggle_folder(tmp_path / "c", 12)
    labels = root / "training_solutions_rev1.csv"
    lines = labels.read_text().splitlines()
    labels.write_text("\n".join([*lines[:-1], lines[-1].rsplit(",", 1)[0] + ",0.125"]))
    assert len({a.fingerprint, b.fingerprint, opened(root).fingerprint}) == 3


def test_a_large_folder_stays_encoded(tmp_path, monkeypatch, capsys):
    root = kaggle_folder(tmp_path)
    images = root / "images_training_rev1"
    (images / "103.jpg").write_bytes(b"")
    picture(0, 64, 64).save(images / "104.jpg")
    (images / "stray.png").touch()
    monkeypatch.setattr(opening, "_MOST_MEMORY", 12 * SIDE * SIDE * 3)
    decoded = opened(root)
    assert isinstance(decoded.images, np.ndarray)
    monkeypatch.setattr(opening, "_MOST_MEMORY", 12 * SIDE * SIDE * 3 - 1)
    encoded = opened(root)
    assert isinstance(encoded.images, EncodedImages)
    packed = opened(pack_of(root, tmp_path / "pack"))
    assert encoded.fingerprint == decoded.fingerprint == packed.fingerprint
    assert encoded.quarantined == decoded.quarantined
    assert {q.id: q.reason for q in encoded.quarantined} == {
        "103": "empty file",
        "104": "64×64 pixels, most images have 48×48",
        "stray": "its name is not an id of the label file",
    }
    assert (encoded.ids, encoded.whole_size, encoded.path) == (decoded.ids, decoded.whole_size, decoded.path)
    np.testing.assert_array_equal(encoded.labels, decoded.labels)
    np.testing.assert_array_equal(encoded.images[:], decoded.images)
    assert capsys.readouterr().err == ""
    open_dataset(root, TREE, smallest=SIDE, reach=0)
    said = capsys.readouterr().err.splitlines()[0]
    assert said.startswith(f"gzkern: {root}: its images take 0.0 GiB decoded, too much to hold in memory;")
    assert said.endswith(f"gzkern pack {images} --labels {root}/training_solutions_rev1.csv --out PACK")


def test_places_without_a_data_set(tmp_path):
    expected = "expected a pack, or a folder with images_training_rev1/ and training_solutions_rev1.csv"

    def assert_refused(path, message):
        with pytest.raises(InputError, match=f"^{path}: .*{message}.*{expected}"):
            opened(path)

    assert_refused(tmp_path / "absent", "no such folder")
    (tmp_path / "file").touch()
    assert_refused(tmp_path / "file", "is a file")
    (tmp_path / "empty").mkdir()
    assert_refused(tmp_path / "empty", "no data set;")
    write_images(tmp_path / "loose", ["1", "2"])
    assert_refused(tmp_path / "loose", "it holds images, but no label file")
    write_images(tmp_path / "unlabelled" / "images_training_rev1", ["1", "2"])
    assert_refused(tmp_path / "unlabelled", "no label file training_solutions_rev1.csv")


def test_a_pack_must_fit_the_tree_and_the_crop(tmp_path):
    packed = pack_of(kaggle_folder(tmp_path), tmp_path / "pack")
    with pytest.raises(InputError, match="48×48 pixels an image, smaller than the 49-pixel crop"):
        opened(packed, smallest=SIDE + 1)
    (tmp_path / "bars.toml").write_text('name = "bars"\n[[questions]]\nid = 1\nanswers = ["yes", "no"]\n')
    with pytest.raises(InputError, match="not those of decision tree bars"):
        opened(packed, load_tree(tmp_path / "bars.toml"))


@pytest.mark.parametrize(
    ("reach", "refused"),
    [
        (9.5, None),
        (9.51, r"up to 9.5 pixels from the centre, 22×22 in all; .* with --crop 22 or more"),
        (14.4, "30×30 in all; run gzkern pack again with --crop 30 or more"),
        (23.5, "48×48 in all; run gzkern pack again without --crop"),
        (1000, "2002×2002 in all; run gzkern pack again without --crop"),
        (math.inf, "recentring needs whole images; run gzkern pack again without --crop"),
    ],
)
def test_a_pack_must_hold_what_is_sampled(tmp_path, reach, refused):
    root = kaggle_folder(tmp_path)
    whole, cropped = pack_of(root, tmp_path / "whole"), pack_of(root, tmp_path / "cropped", crop=20)
    assert opened(whole, reach=reach).path == whole
    assert opened(root, reach=reach).path is None
    if refused:
        with pytest.raises(InputError, match=f"holds the central 20×20 pixels of images of 48×48, but .*{refused}$"):
            opened(cropped, reach=reach)
    else:
        dataset = opened(cropped, reach=reach)
        assert (dataset.path, dataset.whole_size) == (cropped, (SIDE, SIDE))
        assert dataset.fingerprint == opened(whole).fingerprint


def test_an_axis_that_a_crop_left_whole_may_be_left(tmp_path):
    (tmp_path / "images").mkdir()
    picture(0, 64, 48).save(tmp_path / "images/1.png")
    pack(tmp_path / "images", None, tmp_path / "pack", TREE, smallest=SIDE, crop=48, progress=False)
    assert opened(tmp_path / "pack", reach=23.5).whole_size == (48, 64)
    with pytest.raises(InputError, match=r"the central 48×48 pixels of images of 64×48, .* without --crop"):
        opened(tmp_path / "pack", reach=23.6)


def test_a_published_network_needs_386_pixels(tmp_path):
    """211.5 ± 191.53 is all that an unrecentred network of the paper can sample (of 424)."""
    (tmp_path / "images").mkdir()
    picture(0, 424, 424).save(tmp_path / "images/1.png")
    for crop in (386, 384):
        pack(tmp_path / "images", None, tmp_path / str(crop), TREE, crop=crop, progress=False)
    assert opened(tmp_path / "386", smallest=207, reach=191.53).images.shape[1:] == (386, 386, 3)
    with pytest.raises(InputError, match="with --crop 386 or more"):
        opened(tmp_path / "384", smallest=207, reach=191.53)


def test_a_pack_without_labels_fits_any_tree(tmp_path):
    write_images(tmp_path / "images", ["11", "9"])
    pack(tmp_path / "images", None, tmp_path / "pack", TREE, smallest=SIDE, progress=False)
    dataset = opened(tmp_path / "pack")
    assert dataset.ids == ("9", "11")
    assert dataset.labels is None
    np.testing.assert_allclose(dataset.images[1].astype(int), np.asarray(picture(0)), atol=60)


@pytest.mark.parametrize(
    ("count", "validation", "held_out"),
    [(61_578, 0.1, 6_157), (964, 0.1, 96), (100, 0.29, 29), (30, 0.1, 3), (12, 0.0, 0), (10, 0.99, 9)],
)
def test_split_is_contiguous_and_rounded_down(count, validation, held_out):
    train, valid = split(count, validation)
    assert [*train, *valid] == list(range(count))
    assert len(valid) == held_out


@pytest.mark.parametrize("validation", [-0.1, 1.0, 1.5, float("nan")])
def test_split_refuses_what_is_no_fraction(validation):
    with pytest.raises(InputError, match=r"data\.validation = .*expected a fraction"):
        split(100, validation)


def test_split_refuses_an_empty_side():
    with pytest.raises(InputError, match=r"data\.validation = 0\.1 of 9 images holds out 0"):
        split(9, 0.1)


@pytest.mark.skipif(real_sample() is None, reason="no real galaxies on this machine")
def test_real_galaxies(tmp_path):
    out = tmp_path / "pack"
    summary = pack(
        real_sample() / "images_training_rev1",
        real_sample() / "training_solutions_rev1.csv",
        out,
        TREE,
        progress=False,
    )
    assert (summary.count, summary.image_shape, summary.quarantined) == (964, (424, 424, 3), ())
    dataset = open_pack(out, verify=True)
    assert dataset.images.shape == (964, 424, 424, 3)
    assert dataset.ids[0] == "1000068"
    assert dataset.labels[0, 0] == np.float32(0.305049)
    train, valid = split(len(dataset), 0.1)
    assert (len(train), len(valid)) == (868, 96)
    # The challenge's baseline for these rows: the mean of the training labels.
    rmse = np.sqrt(np.mean((dataset.labels[valid] - dataset.labels[train].mean(axis=0)) ** 2))
    assert rmse == pytest.approx(0.1669, abs=1e-4)
