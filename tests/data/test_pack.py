import csv
import json
import os

import numpy as np
import pytest
from data_files import SIDE, TREE, file_names, kaggle_folder, pack_kaggle, picture, write_images

from gzkern.data import loading
from gzkern.data import pack as pack_module
from gzkern.data import packing as packing_module
from gzkern.data.images import decode
from gzkern.data.loading import Loader
from gzkern.data.pack import open_pack, pack
from gzkern.errors import ImageError, InputError


@pytest.fixture
def root(tmp_path):
    return kaggle_folder(tmp_path / "data")


def assert_altered(path, message, **options):
    with pytest.raises(InputError, match=f"^{path}: the pack is incomplete or altered: {message}.*; run gzkern"):
        open_pack(path, **options)


def test_contents_and_order_are_those_of_the_label_file(root, tmp_path):
    labels = root / "training_solutions_rev1.csv"
    header, *rows = labels.read_text().splitlines()
    labels.write_text("\n".join([header, *rows[::-1]]))
    summary = pack_kaggle(root, tmp_path / "out")
    dataset = open_pack(tmp_path / "out", verify=True)
    assert (summary.count, summary.image_shape, summary.quarantined) == (12, (SIDE, SIDE, 3), ())
    assert dataset.ids == tuple(str(i) for i in range(112, 100, -1))
    assert dataset.columns == TREE.columns
    assert isinstance(dataset.images, np.memmap)
    for id_, image in zip(dataset.ids, dataset.images, strict=True):
        expected = decode(root / "images_training_rev1" / f"{id_}.jpg", smallest=SIDE)
        np.testing.assert_array_equal(image, expected)
    np.testing.assert_array_equal(dataset.labels[0], np.float32(rows[-1].split(",")[1:]))


def test_files_are_plain_and_described(root, tmp_path):
    pack_kaggle(root, tmp_path / "out")
    assert np.load(tmp_path / "out/images.npy").shape == (12, SIDE, SIDE, 3)
    meta = json.loads((tmp_path / "out/pack.json").read_text())
    assert (meta["version"], meta["count"], meta["tree"]) == (2, 12, "galaxy_zoo_2")
    assert (meta["image_shape"], meta["whole_size"], meta["crop"]) == ([SIDE, SIDE, 3], [SIDE, SIDE], None)
    assert tuple(meta["columns"]) == TREE.columns
    assert set(meta["files"]) == {"images.npy", "labels.npy", "index.csv", "quarantine.csv"}
    assert (tmp_path / "out/index.csv").read_text().splitlines()[:2] == ["id,file", "101,101.jpg"]


def test_quarantine(root, tmp_path):
    images = root / "images_training_rev1"
    (images / "101.jpg").write_bytes(b"")
    (images / "102.jpg").write_text("text")
    truncated = (images / "104.jpg").read_bytes()[:700]
    (images / "104.jpg").write_bytes(truncated)
    picture(1, 40, 40).save(images / "105.jpg")
    picture(1, 64, 60).save(images / "106.jpg")
    (images / "107.jpg").unlink()
    (images / "999.jpg").touch()
    picture(1).save(images / "108.png")
    (images / "readme.txt").touch()
    summary = pack_kaggle(root, tmp_path / "out")
    expected = {
        "101": "empty file",
        "102": "not an image (expected JPEG, PNG or FITS)",
        "104": "truncated after 700 bytes",
        "105": "40×40 pixels, smaller than the 48-pixel crop",
        "106": "64×60 pixels, most images have 48×48",
        "107": "no image file",
        "108": "108.jpg has the same id",
        "999": "its name is not an id of the label file",
    }
    assert {q.id: q.reason for q in summary.quarantined} == expected
    with (tmp_path / "out/quarantine.csv").open() as file:
        assert {row["id"]: row["reason"] for row in csv.DictReader(file)} == expected
    dataset = open_pack(tmp_path / "out", verify=True)
    assert dataset.ids == ("103", "108", "109", "110", "111", "112")
    assert dataset.quarantined == summary.quarantined
    rows = (root / "training_solutions_rev1.csv").read_text().splitlines()
    np.testing.assert_array_equal(dataset.labels[1], np.float32(rows[8].split(",")[1:]))
    np.testing.assert_array_equal(dataset.images[1], decode(images / "108.jpg", smallest=SIDE))


def test_nothing_usable(root, tmp_path):
    with pytest.raises(InputError, match=r"no usable image: 101\.jpg: 48×48 pixels, smaller .* \(and 11 more\)"):
        pack_kaggle(root, tmp_path / "out", smallest=207)
    for path in (root / "images_training_rev1").iterdir():
        path.rename(path.with_suffix(".txt"))
    with pytest.raises(InputError, match=r"no usable image: 101: no image file \(and 11 more\)"):
        pack_kaggle(root, tmp_path / "out")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no image files, expected"):
        pack(tmp_path / "empty", None, tmp_path / "out", TREE, progress=False)
    write_images(tmp_path / "others", ["7", "8"])
    expected = r"others: none of its 2 images is named by an id of the label file \(an image: 7\.jpg, an id: 101\);"
    with pytest.raises(InputError, match=expected):
        pack(tmp_path / "others", root / "training_solutions_rev1.csv", tmp_path / "out", TREE, progress=False)
    with pytest.raises(InputError, match="absent: cannot be read"):
        pack(tmp_path / "absent", None, tmp_path / "out", TREE, progress=False)
    assert not (tmp_path / "out").exists()


def test_too_little_room(root, tmp_path, monkeypatch):
    monkeypatch.setattr(
        packing_module.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 12 * SIDE**2 * 3 - 1})
    )
    with pytest.raises(InputError, match=r"out: the pack needs .* GiB, only .* GiB are free"):
        pack_kaggle(root, tmp_path / "out")
    assert file_names(tmp_path) == ["data"]
    pack_kaggle(root, tmp_path / "out", crop=SIDE - 2)


def test_an_odd_first_image_does_not_set_the_size(root, tmp_path):
    picture(0, width=96, height=96).save(root / "images_training_rev1/101.jpg")
    summary = pack_kaggle(root, tmp_path / "out")
    assert summary.count == 11
    assert [(q.id, q.reason) for q in summary.quarantined] == [("101", "96×96 pixels, most images have 48×48")]


def test_an_existing_directory_is_kept_unless_it_is_a_pack_to_overwrite(root, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    pack_kaggle(root, out)  # an empty directory is no loss
    with pytest.raises(InputError, match="out: already exists; choose another name or pass --overwrite"):
        pack_kaggle(root, out)
    (root / "images_training_rev1/101.jpg").unlink()
    pack_kaggle(root, out, overwrite=True)
    assert len(open_pack(out)) == 11
    with pytest.raises(InputError, match="data: is not a pack, so it is not overwritten"):
        pack_kaggle(root, root, overwrite=True)
    assert file_names(tmp_path) == ["data", "out"]


def test_a_file_that_changes_while_it_is_read_is_quarantined(root, tmp_path, monkeypatch):
    def change(path, *, smallest):
        image = decode(path, smallest=smallest)
        if path.name == "103.jpg":
            path.touch()
        if path.name == "105.jpg":
            path.unlink()
        if path.name == "106.jpg":  # and what was read is no image
            path.write_bytes(path.read_bytes() + b"more")
            raise ImageError("truncated after 4 bytes")
        return image

    monkeypatch.setattr(loading, "_SHAPES_LOOKED_AT", 1)
    monkeypatch.setattr(loading, "decode", change)
    summary = pack_kaggle(root, tmp_path / "out")
    reason = "changed while it was read"
    assert [(q.id, q.reason) for q in summary.quarantined] == [("103", reason), ("105", reason), ("106", reason)]
    assert summary.count == 9


def test_a_crop_is_the_centre(root, tmp_path):
    summary = pack_kaggle(root, tmp_path / "out", crop=20)
    assert summary.image_shape == (20, 20, 3)
    whole = pack_kaggle(root, tmp_path / "whole") and open_pack(tmp_path / "whole")
    cropped = open_pack(tmp_path / "out")
    assert (cropped.whole_size, whole.whole_size) == ((SIDE, SIDE), (SIDE, SIDE))
    np.testing.assert_array_equal(cropped.images, whole.images[:, 14:34, 14:34])
    meta = json.loads((tmp_path / "out/pack.json").read_text())
    assert (meta["image_shape"], meta["whole_size"], meta["crop"]) == ([20, 20, 3], [SIDE, SIDE], 20)


@pytest.mark.parametrize(
    ("width", "height", "crop", "expected"),
    [
        (48, 48, 21, "an even number from 2 to 48"),
        (48, 48, 50, "an even number from 2 to 48"),
        (48, 48, 0, "an even number from 2 to 48"),
        (48, 48, -2, "an even number from 2 to 48"),
        (49, 61, 20, "an odd number from 2 to 49"),
        (48, 61, 20, "a number from 2 to 48"),
    ],
)
def test_a_crop_that_would_move_the_centre_is_refused(tmp_path, width, height, crop, expected):
    (tmp_path / "images").mkdir()
    picture(0, width, height).save(tmp_path / "images/1.png")
    with pytest.raises(InputError, match=f"--crop {crop}: expected {expected}, .* of {width}×{height}$"):
        pack(tmp_path / "images", None, tmp_path / "out", TREE, smallest=SIDE, crop=crop, progress=False)
    assert file_names(tmp_path) == ["images"]


@pytest.mark.parametrize(("width", "height", "crop"), [(49, 61, 21), (49, 61, 49), (64, 48, 48)])
def test_a_crop_of_any_shape_has_the_centre_of_the_whole(tmp_path, width, height, crop):
    (tmp_path / "images").mkdir()
    picture(0, width, height).save(tmp_path / "images/1.png")
    pack(tmp_path / "images", None, tmp_path / "out", TREE, smallest=SIDE, crop=crop, progress=False)
    cut = open_pack(tmp_path / "out").images[0]
    whole = decode(tmp_path / "images/1.png", smallest=1)
    rows, columns = (np.abs(np.arange(n) - (n - 1) / 2) < crop / 2 for n in (height, width))
    np.testing.assert_array_equal(cut, whole[rows][:, columns])


def test_altered_packs_are_refused(root, tmp_path):
    out = tmp_path / "out"
    pack_kaggle(root, out)

    def altered(name, change):
        pack_kaggle(root, out, overwrite=True)
        path = out / name
        path.write_bytes(change(path.read_bytes()))

    altered("images.npy", lambda content: content[:-1])
    assert_altered(out, "images.npy has 83,071 bytes, expected 83,072")
    altered("images.npy", lambda content: content.replace(b"(12, 48, 48, 3)", b"(24, 24, 48, 3)"))
    assert_altered(out, "images.npy was changed")
    hide_the_change(out)
    assert_altered(out, r"images.npy is \(24, 24, 48, 3\) uint8, expected \(12, 48, 48, 3\) uint8")
    altered("images.npy", lambda content: bytes(len(content)))
    hide_the_change(out)
    assert_altered(out, "images.npy cannot be read")
    altered("labels.npy", lambda content: content[:-1] + bytes([content[-1] ^ 1]))
    assert_altered(out, "labels.npy was changed")
    altered("index.csv", lambda content: content.replace(b"103", b"913"))
    assert_altered(out, "index.csv was changed")
    altered("pack.json", lambda content: content.replace(b'"Class1.1"', b'"Class1.9"'))
    assert_altered(out, "pack.json was edited")
    altered("pack.json", lambda content: content[:-10])
    assert_altered(out, "pack.json cannot be read")
    altered("pack.json", lambda content: b"[]")
    assert_altered(out, "pack.json does not describe a pack")
    altered("pack.json", lambda content: content.replace(b'"version": 2', b'"version": 1'))
    with pytest.raises(InputError, match="pack version 1, this gzkern reads version 2"):
        open_pack(out)


@pytest.mark.parametrize("name", ["images.npy", "labels.npy", "index.csv", "quarantine.csv"])
def test_missing_files_are_named(root, tmp_path, name):
    pack_kaggle(root, tmp_path / "out")
    (tmp_path / "out" / name).unlink()
    assert_altered(tmp_path / "out", f"{name} is missing")


def hide_the_change(pack):
    """Have ``pack.json`` look newer than the images, as after packing."""
    time = (pack / "images.npy").stat().st_mtime_ns + 1
    os.utime(pack / "pack.json", ns=(time, time))


def test_a_changed_pixel_is_found(root, tmp_path):
    out = tmp_path / "out"
    pack_kaggle(root, out)
    images = np.load(out / "images.npy", mmap_mode="r+")
    images[5, 3, 2, 1] ^= 1
    images.flush()
    assert_altered(out, "images.npy was changed")
    assert_altered(out, "images.npy was changed")  # it is not taken for sound the second time
    hide_the_change(out)
    open_pack(out)  # nothing says that it is to be hashed
    assert_altered(out, "images.npy was changed", verify=True)


def test_images_that_are_newer_are_hashed_once(root, tmp_path, monkeypatch):
    out = tmp_path / "out"
    pack_kaggle(root, out)
    hashed = []
    sha256 = pack_module._sha256
    monkeypatch.setattr(pack_module, "_sha256", lambda path, *rest: hashed.append(path.name) or sha256(path, *rest))

    def images_hashed():
        hashed.clear()
        open_pack(out)
        assert "labels.npy" in hashed
        return "images.npy" in hashed

    hide_the_change(out)
    assert not images_hashed()
    for file in ("images.npy", "pack.json"):
        os.utime(out / file, (1, 1))
    assert images_hashed()
    assert not images_hashed()
    for file in ("images.npy", "pack.json"):
        os.utime(out / file, (1, 1))
    with monkeypatch.context() as patched:
        patched.setattr(pack_module.os, "utime", lambda _: (_ for _ in ()).throw(PermissionError))
        assert images_hashed()
    assert images_hashed()


def test_what_is_no_pack(tmp_path):
    with pytest.raises(InputError, match=r"is not a pack \(no pack.json\)"):
        open_pack(tmp_path)


@pytest.mark.parametrize(("limit", "value"), [("_IN_FLIGHT", 6), ("_IN_FLIGHT_BYTES", 7 * 3 * SIDE**2 - 1)])
def test_decoding_runs_ahead_by_a_bounded_number(tmp_path, monkeypatch, limit, value):
    write_images(tmp_path / "images", [str(i) for i in range(100)])
    loader = Loader(tmp_path / "images", None, smallest=SIDE, progress=False)
    begun = []

    def noted(path, *, smallest):
        begun.append(path)
        return decode(path, smallest=smallest)

    monkeypatch.setattr(loading, "decode", noted)
    monkeypatch.setattr(loading, limit, value)
    for done, decoded in enumerate(loader.decode("")):
        assert decoded.candidate.id == str(done)
        assert len(begun) <= done + 6
    assert done == 99
