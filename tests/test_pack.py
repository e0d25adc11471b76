import csv
import json
import signal
import subprocess
import sys

import numpy as np
import pytest
from data_files import SIDE, TREE, kaggle_folder, picture, write_images

from gzkern.data import loading
from gzkern.data import pack as pack_module
from gzkern.data.images import decode
from gzkern.data.loading import Loader
from gzkern.data.pack import open_pack, pack
from gzkern.errors import GzkernError, InputError


@pytest.fixture
def root(tmp_path):
    return kaggle_folder(tmp_path / "data")


def run(root, out, **options):
    options = {"smallest": SIDE, "progress": False} | options
    return pack(root / "images_training_rev1", root / "training_solutions_rev1.csv", out, TREE, **options)


def assert_altered(path, message, **options):
    with pytest.raises(InputError, match=f"^{path}: the pack is incomplete or altered: {message}.*; run gzkern"):
        open_pack(path, **options)


def test_contents_and_order_are_those_of_the_label_file(root, tmp_path):
    labels = root / "training_solutions_rev1.csv"
    header, *rows = labels.read_text().splitlines()
    labels.write_text("\n".join([header, *rows[::-1]]))
    summary = run(root, tmp_path / "out")
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
    run(root, tmp_path / "out")
    assert np.load(tmp_path / "out/images.npy").shape == (12, SIDE, SIDE, 3)
    meta = json.loads((tmp_path / "out/pack.json").read_text())
    assert (meta["version"], meta["count"], meta["tree"]) == (1, 12, "galaxy_zoo_2")
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
    summary = run(root, tmp_path / "out")
    expected = {
        "101": "empty file",
        "102": "not an image (expected JPEG or PNG)",
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
        run(root, tmp_path / "out", smallest=207)
    for path in (root / "images_training_rev1").iterdir():
        path.rename(path.with_suffix(".txt"))
    with pytest.raises(InputError, match=r"no usable image: 101: no image file \(and 11 more\)"):
        run(root, tmp_path / "out")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no image files, expected"):
        pack(tmp_path / "empty", None, tmp_path / "out", TREE, progress=False)
    with pytest.raises(InputError, match="absent: cannot be read"):
        pack(tmp_path / "absent", None, tmp_path / "out", TREE, progress=False)
    assert not (tmp_path / "out").exists()


def test_too_little_room(root, tmp_path, monkeypatch):
    monkeypatch.setattr(pack_module.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 12 * SIDE**2 * 3 - 1}))
    with pytest.raises(InputError, match=r"out: the pack needs .* GiB, only .* GiB are free"):
        run(root, tmp_path / "a/out")
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_an_odd_first_image_does_not_set_the_size(root, tmp_path):
    picture(0, width=96, height=96).save(root / "images_training_rev1/101.jpg")
    summary = run(root, tmp_path / "out")
    assert summary.count == 11
    assert [(q.id, q.reason) for q in summary.quarantined] == [("101", "96×96 pixels, most images have 48×48")]


def test_an_existing_directory_is_kept_unless_it_is_a_pack_to_overwrite(root, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    run(root, out)  # an empty directory is no loss
    with pytest.raises(InputError, match="out: already exists; choose another name or pass --overwrite"):
        run(root, out)
    (root / "images_training_rev1/101.jpg").unlink()
    run(root, out, overwrite=True)
    assert len(open_pack(out)) == 11
    with pytest.raises(InputError, match="data: is not a pack, so it is not overwritten"):
        run(root, root, overwrite=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "out"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(28, "No space left on device"), MemoryError])
def test_an_interrupted_pack_leaves_nothing(root, tmp_path, monkeypatch, error):
    decoded = []

    def decode_some(path, *, smallest):
        decoded.append(path.name)
        if decoded.count("107.jpg") == 2:  # the first look was for the size
            raise error
        return decode(path, smallest=smallest)

    monkeypatch.setattr(loading, "decode", decode_some)
    with pytest.raises(GzkernError if isinstance(error, OSError) else error):
        run(root, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_a_failed_overwrite_keeps_the_old_pack(root, tmp_path, monkeypatch):
    run(root, tmp_path / "out")
    monkeypatch.setattr(pack_module, "_write_csv", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run(root, tmp_path / "out", overwrite=True)
    assert len(open_pack(tmp_path / "out", verify=True)) == 12
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "out"]


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_pack_leaves_nothing_at_out(root, tmp_path, how):
    program = """
import os, signal, sys, time
from pathlib import Path
import gzkern.data.loading as loading
from gzkern.data.pack import pack
from gzkern.decision_tree import load_tree
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job ignores it
decode, (root, out) = loading.decode, map(Path, sys.argv[1:])
def slow(path, *, smallest):
    if path.name > "106.jpg":
        os.write(1, b".")  # half way; print is not atomic among threads
        time.sleep(1 if path.name > "107.jpg" else 0.2)
    return decode(path, smallest=smallest)
loading.decode = slow
pack(root / "images_training_rev1", None, out, load_tree(), smallest=48)
"""
    command = [sys.executable, "-c", program, str(root), str(tmp_path / "out")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout.read(1) == b"."
        process.send_signal(how)
    assert process.returncode != 0
    assert not (tmp_path / "out").exists()
    if how == signal.SIGINT:
        assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_altered_packs_are_refused(root, tmp_path):
    out = tmp_path / "out"
    run(root, out)

    def altered(name, change):
        run(root, out, overwrite=True)
        path = out / name
        path.write_bytes(change(path.read_bytes()))

    altered("images.npy", lambda content: content[:-1])
    assert_altered(out, "images.npy has 83,071 bytes, expected 83,072")
    altered("images.npy", lambda content: content.replace(b"(12, 48, 48, 3)", b"(24, 24, 48, 3)"))
    assert_altered(out, r"images.npy is \(24, 24, 48, 3\) uint8, expected \(12, 48, 48, 3\) uint8")
    altered("images.npy", lambda content: bytes(len(content)))
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
    altered("pack.json", lambda content: content.replace(b'"version": 1', b'"version": 2'))
    with pytest.raises(InputError, match="pack version 2, this gzkern reads version 1"):
        open_pack(out)


@pytest.mark.parametrize("name", ["images.npy", "labels.npy", "index.csv", "quarantine.csv"])
def test_missing_files_are_named(root, tmp_path, name):
    run(root, tmp_path / "out")
    (tmp_path / "out" / name).unlink()
    assert_altered(tmp_path / "out", f"{name} is missing")


def test_a_changed_pixel_is_found_by_verify(root, tmp_path):
    out = tmp_path / "out"
    run(root, out)
    images = np.load(out / "images.npy", mmap_mode="r+")
    images[5, 3, 2, 1] ^= 1
    images.flush()
    open_pack(out)
    assert_altered(out, "images.npy was changed", verify=True)


def test_what_is_no_pack(tmp_path):
    with pytest.raises(InputError, match=r"is not a pack \(no pack.json\)"):
        open_pack(tmp_path)


def test_decoding_runs_ahead_by_a_bounded_number(tmp_path, monkeypatch):
    write_images(tmp_path / "images", [str(i) for i in range(100)])
    loader = Loader(tmp_path / "images", None, smallest=SIDE, progress=False)
    begun = []

    def noted(path, *, smallest):
        begun.append(path)
        return decode(path, smallest=smallest)

    monkeypatch.setattr(loading, "decode", noted)
    monkeypatch.setattr(loading, "_IN_FLIGHT", 6)
    for done, (candidate, _) in enumerate(loader):
        assert candidate.id == str(done)
        assert len(begun) <= done + 6
    assert done == 99
