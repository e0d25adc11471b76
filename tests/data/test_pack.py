import csv
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
from data_files import SIDE, TREE, kaggle_folder, picture, write_images

from gzkern.data import journal as journal_module
from gzkern.data import loading
from gzkern.data import pack as pack_module
from gzkern.data import packing as packing_module
from gzkern.data.images import decode
from gzkern.data.loading import Loader
from gzkern.data.pack import open_pack, pack
from gzkern.errors import GzkernError, ImageError, InputError


@pytest.fixture
def root(tmp_path):
    return kaggle_folder(tmp_path / "data")


def run(root, out, **options):
    options = {"smallest": SIDE, "progress": False} | options
    return pack(root / "images_training_rev1", root / "training_solutions_rev1.csv", out, TREE, **options)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def assert_same_files(a, b):
    assert names(a) == names(b)
    for path in a.iterdir():
        assert path.read_bytes() == (b / path.name).read_bytes(), path.name


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
    summary = run(root, tmp_path / "out")
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
        run(root, tmp_path / "out", smallest=207)
    for path in (root / "images_training_rev1").iterdir():
        path.rename(path.with_suffix(".txt"))
    with pytest.raises(InputError, match=r"no usable image: 101: no image file \(and 11 more\)"):
        run(root, tmp_path / "out")
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
        run(root, tmp_path / "out")
    assert names(tmp_path) == ["data"]
    run(root, tmp_path / "out", crop=SIDE - 2)


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
    assert names(tmp_path) == ["data", "out"]


def interrupted_at(monkeypatch, name, error):
    """Have ``error`` raised when a file is decoded the second time; the first look may be for the size."""
    decoded = []

    def decode_some(path, *, smallest):
        decoded.append(path.name)
        if path.name == name and decoded.count(name) == 2:
            raise error
        return decode(path, smallest=smallest)

    monkeypatch.setattr(loading, "decode", decode_some)


@pytest.mark.parametrize(
    ("error", "what"),
    [
        (KeyboardInterrupt, "interrupted"),
        (OSError(28, "No space left on device"), "no space left on device"),
        (MemoryError, "out of memory"),
    ],
)
def test_an_interrupted_pack_is_kept_and_resumed(root, tmp_path, monkeypatch, error, what):
    out = tmp_path / "out"
    (root / "images_training_rev1/103.jpg").write_bytes(b"")
    with monkeypatch.context() as patched:
        interrupted_at(patched, "107.jpg", error)
        goes_on = "which are kept; the same command with --resume, and without --overwrite, goes on"
        with pytest.raises(GzkernError, match=f"out: {what} after 6 of 12 files, {goes_on}"):
            run(root, out)
    assert names(tmp_path) == [".out.packing", "data"]
    with pytest.raises(InputError, match=r"out: 6 of 12 files were packed .* --resume to go on, --overwrite to begin"):
        run(root, out)

    decoded = []
    monkeypatch.setattr(loading, "decode", lambda path, **options: decoded.append(path) or decode(path, **options))
    summary = run(root, out, resume=True)
    again = {path.name for path in decoded[12:]}  # after the look for the size
    assert again == {"103.jpg", *(f"{i}.jpg" for i in range(107, 113))}
    assert (summary.count, [q.id for q in summary.quarantined]) == (11, ["103"])
    run(root, tmp_path / "at once")
    assert_same_files(out, tmp_path / "at once")
    assert names(tmp_path) == ["at once", "data", "out"]


def test_an_interrupted_overwrite_keeps_the_old_pack_until_it_is_resumed(root, tmp_path, monkeypatch):
    out = tmp_path / "out"
    run(root, out)
    with monkeypatch.context() as patched:
        interrupted_at(patched, "107.jpg", KeyboardInterrupt)
        with pytest.raises(GzkernError, match="interrupted after 6"):
            run(root, out, overwrite=True, crop=SIDE - 2)
    assert open_pack(out, verify=True).images.shape[1] == SIDE
    run(root, out, resume=True, crop=SIDE - 2)
    assert open_pack(out, verify=True).images.shape[1] == SIDE - 2
    assert names(tmp_path) == ["data", "out"]


def test_overwrite_drops_what_was_begun(root, tmp_path, monkeypatch):
    begin(root, tmp_path / "out", monkeypatch)
    run(root, tmp_path / "out", overwrite=True, crop=20)
    assert names(tmp_path) == ["data", "out"]


def begin(root, out, monkeypatch):
    """Six of the twelve images of a pack."""
    with monkeypatch.context() as patched:
        interrupted_at(patched, "107.jpg", KeyboardInterrupt)
        with pytest.raises(GzkernError, match="interrupted after 6"):
            run(root, out)
    return out.with_name(f".{out.name}.packing")


def test_what_appeared_at_out_meanwhile_is_not_replaced_by_a_resumed_job(root, tmp_path, monkeypatch):
    out = tmp_path / "out"
    with monkeypatch.context() as patched:
        patched.setattr(packing_module, "publish", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(GzkernError, match="interrupted after 12 of 12 files"):
            run(root, out, overwrite=True)
    out.mkdir()
    (out / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match="out: is not a pack, so it is not overwritten"):
        run(root, out, resume=True)
    assert (out / "thesis.txt").read_text() == "mine"


def test_a_file_that_could_not_be_read_for_a_while_is_tried_again(root, tmp_path, monkeypatch):
    run(root, tmp_path / "at once")

    def failing(path, *, smallest):
        decoded.append(path.name)
        if path.name == "103.jpg":
            raise ImageError("input/output error")
        if decoded.count("107.jpg") == 2:  # the first look was for the size
            raise KeyboardInterrupt
        return decode(path, smallest=smallest)

    decoded = []
    with monkeypatch.context() as patched:
        patched.setattr(loading, "decode", failing)
        patched.setattr(journal_module, "_COMMIT_BYTES", 1)
        with pytest.raises(GzkernError, match="interrupted after"):
            run(root, tmp_path / "out")
    run(root, tmp_path / "out", resume=True)
    assert_same_files(tmp_path / "out", tmp_path / "at once")


def test_an_interrupt_after_the_pack_was_named_says_that_it_is_whole(root, tmp_path, monkeypatch):
    def publish(folder, place, **_):
        folder.rename(place)
        raise KeyboardInterrupt

    run(root, tmp_path / "at once")
    monkeypatch.setattr(packing_module, "publish", publish)
    with pytest.raises(GzkernError, match="out: interrupted when it had been written whole"):
        run(root, tmp_path / "out")
    assert_same_files(tmp_path / "out", tmp_path / "at once")
    assert names(tmp_path) == ["at once", "data", "out"]


def test_nothing_to_resume(root, tmp_path):
    with pytest.raises(InputError, match="out: nothing to resume; leave --resume out to start"):
        run(root, tmp_path / "out", resume=True)
    run(root, tmp_path / "out")
    with pytest.raises(InputError, match="out: nothing to resume"):
        run(root, tmp_path / "out", resume=True)
    with pytest.raises(InputError, match="give one of the two"):
        run(root, tmp_path / "out", resume=True, overwrite=True)
    assert names(tmp_path) == ["data", "out"]


def test_a_job_is_resumed_as_it_was_begun_only(root, tmp_path, monkeypatch):
    out = tmp_path / "out"
    begin(root, out, monkeypatch)
    images, labels = root / "images_training_rev1", root / "training_solutions_rev1.csv"

    def assert_refused(what, folder=images, labels_csv=labels, tree=TREE, **options):
        options = {"smallest": SIDE, "progress": False, "resume": True} | options
        with pytest.raises(InputError, match=f"out: the interrupted job was begun with another {what}; give the same"):
            pack(folder, labels_csv, out, tree, **options)

    assert_refused("--crop", crop=20)
    assert_refused("smallest size", smallest=20)
    with monkeypatch.context() as patched:
        patched.setattr(pack_module, "installed_version", lambda package: "0")
        assert_refused("version of gzkern or of its decoders")
    (tmp_path / "copy").symlink_to(images)
    assert_refused("folder of images", folder=tmp_path / "copy")
    assert_refused("label file and another decision tree", labels_csv=None)
    content = labels.read_bytes()
    labels.write_bytes(content.replace(b"101,", b"101,0"))
    assert_refused("label file")
    labels.write_bytes(content)
    (images / "999.jpg").touch()
    assert_refused("list of files")
    (images / "999.jpg").unlink()
    for i in range(101, 108):
        picture(0, 64, 64).save(images / f"{i}.jpg")
    assert_refused("size of most images")
    for i in range(101, 108):
        picture(i).save(images / f"{i}.jpg")
    run(root, out, resume=True)
    run(root, tmp_path / "at once")
    assert_same_files(out, tmp_path / "at once")


@pytest.mark.parametrize("changed", ["content", "time", "gone", "unusable"])
def test_a_file_that_was_changed_since_is_packed_anew(root, tmp_path, monkeypatch, changed):
    out, path = tmp_path / "out", root / "images_training_rev1/104.jpg"
    begin(root, out, monkeypatch)
    if changed == "content":
        picture(99).save(path)
    elif changed == "time":
        os.utime(path, (0, 0))
    elif changed == "unusable":
        path.write_text("text")
    else:
        target = path.with_name("elsewhere")
        path.rename(target)
        path.symlink_to(target.with_name("gone"))  # listed, but no file
    begun = []
    monkeypatch.setattr(loading, "decode", lambda path, **options: begun.append(path.name) or decode(path, **options))
    run(root, out, resume=True)
    assert set(begun[12:]) == {f"{i}.jpg" for i in range(104, 113)}  # after the look for the size
    run(root, tmp_path / "at once")
    assert_same_files(out, tmp_path / "at once")


def test_what_a_crash_left_is_cut_back_to_the_journal(root, tmp_path, monkeypatch):
    run(root, tmp_path / "at once")

    def assert_resumed(change, file):
        work = begin(root, tmp_path / "out", monkeypatch)
        path = work / file
        path.write_bytes(change(path.read_bytes()))
        run(root, tmp_path / "out", resume=True)
        assert_same_files(tmp_path / "out", tmp_path / "at once")
        run(root, tmp_path / "out", overwrite=True)
        shutil.rmtree(tmp_path / "out")

    def lines(change):
        return lambda content: b"".join(change(content.splitlines(keepends=True)))

    assert_resumed(lambda content: content[:-1], "journal.jsonl")
    assert_resumed(lambda content: content[:-20], "journal.jsonl")
    assert_resumed(lambda content: content + b'["107", "107.jp', "journal.jsonl")
    assert_resumed(lambda content: content + bytes(100), "journal.jsonl")
    assert_resumed(lambda content: b"", "journal.jsonl")
    assert_resumed(lines(lambda lines: lines[:2] + lines[3:]), "journal.jsonl")
    assert_resumed(lines(lambda lines: lines[:3] + lines[2:]), "journal.jsonl")
    assert_resumed(lambda content: content + b"half an image", "pack/images.npy")
    assert_resumed(lambda content: content + bytes(3 * 3 * SIDE**2), "pack/images.npy")
    assert_resumed(lambda content: content[:-1], "pack/images.npy")
    assert_resumed(lambda content: content[:100], "pack/images.npy")
    assert_resumed(lambda content: content[:9000] + bytes(4) + content[9004:], "pack/images.npy")


def test_a_job_that_died_between_its_last_steps(root, tmp_path, monkeypatch):
    run(root, tmp_path / "at once")
    with monkeypatch.context() as patched:  # all is packed, but not in its place
        patched.setattr(packing_module, "publish", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(GzkernError, match="interrupted after 12 of 12 files"):
            run(root, tmp_path / "out")
    run(root, tmp_path / "out", resume=True)
    assert_same_files(tmp_path / "out", tmp_path / "at once")
    with monkeypatch.context() as patched:  # it is in its place, but not cleared up after
        patched.setattr(packing_module, "publish", lambda folder, place, **_: folder.rename(place) and 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run(root, tmp_path / "other")
    with pytest.raises(InputError, match="nothing to resume"):
        run(root, tmp_path / "other", resume=True)
    assert_same_files(tmp_path / "other", tmp_path / "at once")
    shutil.rmtree(tmp_path / "other")
    run(root, tmp_path / "other")
    assert names(tmp_path) == ["at once", "data", "other", "out"]


def test_a_second_process_is_refused(root, tmp_path):
    (tmp_path / ".out.packing").mkdir()
    with (tmp_path / ".out.packing/lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        for options in ({}, {"resume": True}, {"overwrite": True}):
            with pytest.raises(InputError, match="out: another process is packing there; wait for it"):
                run(root, tmp_path / "out", **options)
    run(root, tmp_path / "out")
    assert names(tmp_path) == ["data", "out"]


def test_nothing_is_said_to_be_packed_before_it_is_on_the_disk(root, tmp_path, monkeypatch):
    """At each line of the journal, its image has been synchronised."""
    synchronised = [0]

    def fsync(descriptor):
        synchronised.append((os.fstat(descriptor).st_size - 128) // (3 * SIDE**2))

    def write(file, content):
        if b"jpg" in bytes(content[:40]) and bytes(content[:1]) == b"[":
            rows = [json.loads(line)[-1][0] for line in bytes(content).splitlines()]
            journalled.append((max(rows), synchronised[-1]))
        plain_write(file, content)

    journalled = []
    plain_write = journal_module._write
    monkeypatch.setattr(journal_module, "_COMMIT_BYTES", 5 * 3 * SIDE**2)
    monkeypatch.setattr(journal_module, "_write", write)
    monkeypatch.setattr(journal_module.os, "fsync", fsync)
    run(root, tmp_path / "out")
    assert journalled[:3] == [(4, 5), (9, 10), (11, 12)]


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
    summary = run(root, tmp_path / "out")
    reason = "changed while it was read"
    assert [(q.id, q.reason) for q in summary.quarantined] == [("103", reason), ("105", reason), ("106", reason)]
    assert summary.count == 9


def test_a_crop_is_the_centre(root, tmp_path):
    summary = run(root, tmp_path / "out", crop=20)
    assert summary.image_shape == (20, 20, 3)
    whole = run(root, tmp_path / "whole") and open_pack(tmp_path / "whole")
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
    assert names(tmp_path) == ["images"]


@pytest.mark.parametrize(("width", "height", "crop"), [(49, 61, 21), (49, 61, 49), (64, 48, 48)])
def test_a_crop_of_any_shape_has_the_centre_of_the_whole(tmp_path, width, height, crop):
    (tmp_path / "images").mkdir()
    picture(0, width, height).save(tmp_path / "images/1.png")
    pack(tmp_path / "images", None, tmp_path / "out", TREE, smallest=SIDE, crop=crop, progress=False)
    cut = open_pack(tmp_path / "out").images[0]
    whole = decode(tmp_path / "images/1.png", smallest=1)
    rows, columns = (np.abs(np.arange(n) - (n - 1) / 2) < crop / 2 for n in (height, width))
    np.testing.assert_array_equal(cut, whole[rows][:, columns])


def test_a_failed_overwrite_keeps_the_old_pack(root, tmp_path, monkeypatch):
    run(root, tmp_path / "out")
    monkeypatch.setattr(pack_module, "_write_csv", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run(root, tmp_path / "out", overwrite=True)
    assert len(open_pack(tmp_path / "out", verify=True)) == 12


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_pack_leaves_nothing_at_out_and_is_resumed(root, tmp_path, how):
    program = """
import os, signal, sys, threading, time
from pathlib import Path
import gzkern.data.journal as journal
import gzkern.data.loading as loading
from gzkern.data.pack import pack
from gzkern.decision_trees.tree import load_tree
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job ignores it
journal._COMMIT_BYTES = 1
decode, (root, out) = loading.decode, map(Path, sys.argv[1:])
def slow(path, *, smallest):
    if path.name > "106.jpg" and threading.current_thread() is not threading.main_thread():
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
    assert names(tmp_path) == [".out.packing", "data"]
    images = root / "images_training_rev1"
    for name, resume in (("out", True), ("at once", False)):
        pack(images, None, tmp_path / name, TREE, smallest=SIDE, resume=resume, progress=False)
    assert_same_files(tmp_path / "out", tmp_path / "at once")
    assert names(tmp_path) == ["at once", "data", "out"]


def test_a_disk_that_is_full_midway(root, tmp_path):
    """A limit on the size of files stands for it: as there, a part of an image is written before the error."""
    program = """
import resource, sys
from gzkern.data.pack import pack
from gzkern.decision_trees.tree import load_tree
from gzkern.errors import GzkernError
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, resource.RLIM_INFINITY))
try:
    pack(sys.argv[1], None, sys.argv[2], load_tree(), smallest=48)
except GzkernError as error:
    print(error)
"""
    images = root / "images_training_rev1"
    command = [sys.executable, "-c", program, str(images), str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "out: file too large after 7 of 12 files, which are kept; the same command with --resume" in done.stdout
    for name, resume in (("out", True), ("at once", False)):
        pack(images, None, tmp_path / name, TREE, smallest=SIDE, resume=resume, progress=False)
    assert_same_files(tmp_path / "out", tmp_path / "at once")


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
    run(root, tmp_path / "out")
    (tmp_path / "out" / name).unlink()
    assert_altered(tmp_path / "out", f"{name} is missing")


def hide_the_change(pack):
    """Have ``pack.json`` look newer than the images, as after packing."""
    time = (pack / "images.npy").stat().st_mtime_ns + 1
    os.utime(pack / "pack.json", ns=(time, time))


def test_a_changed_pixel_is_found(root, tmp_path):
    out = tmp_path / "out"
    run(root, out)
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
    run(root, out)
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
