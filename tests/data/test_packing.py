import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys

import pytest
from data_files import SIDE, TREE, assert_same_files, file_names, kaggle_folder, pack_kaggle, picture

from gzkern.data import journal as journal_module
from gzkern.data import loading
from gzkern.data import pack as pack_module
from gzkern.data import packing as packing_module
from gzkern.data.images import decode
from gzkern.data.pack import open_pack, pack
from gzkern.errors import GzkernError, ImageError, InputError


@pytest.fixture
def root(tmp_path):
    return kaggle_folder(tmp_path / "data")


def interrupted_at(monkeypatch, name, error):
    """Have ``error`` raised when a file is decoded the second time; the first look may be for the size."""
    decoded = []

    def decode_some(path, *, smallest):
        decoded.append(path.name)
        if path.name == name and decoded.count(name) == 2:
            raise error
        return decode(path, smallest=smallest)

    monkeypatch.setattr(loading, "decode", decode_some)


def begin(root, out, monkeypatch):
    """Six of the twelve images of a pack."""
    with monkeypatch.context() as patched:
        interrupted_at(patched, "107.jpg", KeyboardInterrupt)
        with pytest.raises(GzkernError, match="interrupted after 6"):
            pack_kaggle(root, out)
    return out.with_name(f".{out.name}.packing")


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
            pack_kaggle(root, out)
    assert file_names(tmp_path) == [".out.packing", "data"]
    with pytest.raises(InputError, match=r"out: 6 of 12 files were packed .* --resume to go on, --overwrite to begin"):
        pack_kaggle(root, out)

    decoded = []
    monkeypatch.setattr(loading, "decode", lambda path, **options: decoded.append(path) or decode(path, **options))
    summary = pack_kaggle(root, out, resume=True)
    again = {path.name for path in decoded[12:]}  # after the look for the size
    assert again == {"103.jpg", *(f"{i}.jpg" for i in range(107, 113))}
    assert (summary.count, [q.id for q in summary.quarantined]) == (11, ["103"])
    pack_kaggle(root, tmp_path / "at once")
    assert_same_files(out, tmp_path / "at once")
    assert file_names(tmp_path) == ["at once", "data", "out"]


def test_an_interrupted_overwrite_keeps_the_old_pack_until_it_is_resumed(root, tmp_path, monkeypatch):
    out = tmp_path / "out"
    pack_kaggle(root, out)
    with monkeypatch.context() as patched:
        interrupted_at(patched, "107.jpg", KeyboardInterrupt)
        with pytest.raises(GzkernError, match="interrupted after 6"):
            pack_kaggle(root, out, overwrite=True, crop=SIDE - 2)
    assert open_pack(out, verify=True).images.shape[1] == SIDE
    pack_kaggle(root, out, resume=True, crop=SIDE - 2)
    assert open_pack(out, verify=True).images.shape[1] == SIDE - 2
    assert file_names(tmp_path) == ["data", "out"]


def test_overwrite_drops_what_was_begun(root, tmp_path, monkeypatch):
    begin(root, tmp_path / "out", monkeypatch)
    pack_kaggle(root, tmp_path / "out", overwrite=True, crop=20)
    assert file_names(tmp_path) == ["data", "out"]


def test_what_appeared_at_out_meanwhile_is_not_replaced_by_a_resumed_job(root, tmp_path, monkeypatch):
    out = tmp_path / "out"
    with monkeypatch.context() as patched:
        patched.setattr(packing_module, "publish", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(GzkernError, match="interrupted after 12 of 12 files"):
            pack_kaggle(root, out, overwrite=True)
    out.mkdir()
    (out / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match="out: is not a pack, so it is not overwritten"):
        pack_kaggle(root, out, resume=True)
    assert (out / "thesis.txt").read_text() == "mine"


def test_a_file_that_could_not_be_read_for_a_while_is_tried_again(root, tmp_path, monkeypatch):
    pack_kaggle(root, tmp_path / "at once")

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
            pack_kaggle(root, tmp_path / "out")
    pack_kaggle(root, tmp_path / "out", resume=True)
    assert_same_files(tmp_path / "out", tmp_path / "at once")


def test_an_interrupt_after_the_pack_was_named_says_that_it_is_whole(root, tmp_path, monkeypatch):
    def publish(folder, place, **_):
        folder.rename(place)
        raise KeyboardInterrupt

    pack_kaggle(root, tmp_path / "at once")
    monkeypatch.setattr(packing_module, "publish", publish)
    with pytest.raises(GzkernError, match="out: interrupted when it had been written whole"):
        pack_kaggle(root, tmp_path / "out")
    assert_same_files(tmp_path / "out", tmp_path / "at once")
    assert file_names(tmp_path) == ["at once", "data", "out"]


def test_nothing_to_resume(root, tmp_path):
    with pytest.raises(InputError, match="out: nothing to resume; leave --resume out to start"):
        pack_kaggle(root, tmp_path / "out", resume=True)
    pack_kaggle(root, tmp_path / "out")
    with pytest.raises(InputError, match="out: nothing to resume"):
        pack_kaggle(root, tmp_path / "out", resume=True)
    with pytest.raises(InputError, match="give one of the two"):
        pack_kaggle(root, tmp_path / "out", resume=True, overwrite=True)
    assert file_names(tmp_path) == ["data", "out"]


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
    pack_kaggle(root, out, resume=True)
    pack_kaggle(root, tmp_path / "at once")
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
    pack_kaggle(root, out, resume=True)
    assert set(begun[12:]) == {f"{i}.jpg" for i in range(104, 113)}  # after the look for the size
    pack_kaggle(root, tmp_path / "at once")
    assert_same_files(out, tmp_path / "at once")


def test_what_a_crash_left_is_cut_back_to_the_journal(root, tmp_path, monkeypatch):
    pack_kaggle(root, tmp_path / "at once")

    def assert_resumed(change, file):
        work = begin(root, tmp_path / "out", monkeypatch)
        path = work / file
        path.write_bytes(change(path.read_bytes()))
        pack_kaggle(root, tmp_path / "out", resume=True)
        assert_same_files(tmp_path / "out", tmp_path / "at once")
        pack_kaggle(root, tmp_path / "out", overwrite=True)
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
    pack_kaggle(root, tmp_path / "at once")
    with monkeypatch.context() as patched:  # all is packed, but not in its place
        patched.setattr(packing_module, "publish", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(GzkernError, match="interrupted after 12 of 12 files"):
            pack_kaggle(root, tmp_path / "out")
    pack_kaggle(root, tmp_path / "out", resume=True)
    assert_same_files(tmp_path / "out", tmp_path / "at once")
    with monkeypatch.context() as patched:  # it is in its place, but not cleared up after
        patched.setattr(packing_module, "publish", lambda folder, place, **_: folder.rename(place) and 1 / 0)
        with pytest.raises(ZeroDivisionError):
            pack_kaggle(root, tmp_path / "other")
    with pytest.raises(InputError, match="nothing to resume"):
        pack_kaggle(root, tmp_path / "other", resume=True)
    assert_same_files(tmp_path / "other", tmp_path / "at once")
    shutil.rmtree(tmp_path / "other")
    pack_kaggle(root, tmp_path / "other")
    assert file_names(tmp_path) == ["at once", "data", "other", "out"]


def test_a_second_process_is_refused(root, tmp_path):
    (tmp_path / ".out.packing").mkdir()
    with (tmp_path / ".out.packing/lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        for options in ({}, {"resume": True}, {"overwrite": True}):
            with pytest.raises(InputError, match="out: another process is packing there; wait for it"):
                pack_kaggle(root, tmp_path / "out", **options)
    pack_kaggle(root, tmp_path / "out")
    assert file_names(tmp_path) == ["data", "out"]


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
    pack_kaggle(root, tmp_path / "out")
    assert journalled[:3] == [(4, 5), (9, 10), (11, 12)]


def test_a_failed_overwrite_keeps_the_old_pack(root, tmp_path, monkeypatch):
    pack_kaggle(root, tmp_path / "out")
    monkeypatch.setattr(pack_module, "_write_csv", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        pack_kaggle(root, tmp_path / "out", overwrite=True)
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
    assert file_names(tmp_path) == [".out.packing", "data"]
    images = root / "images_training_rev1"
    for name, resume in (("out", True), ("at once", False)):
        pack(images, None, tmp_path / name, TREE, smallest=SIDE, resume=resume, progress=False)
    assert_same_files(tmp_path / "out", tmp_path / "at once")
    assert file_names(tmp_path) == ["at once", "data", "out"]


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
