import json
import sys
from dataclasses import replace

import numpy as np
import pytest
from data_files import SIDE, TREE, kaggle_folder, pack_kaggle

from gzkern.cli.main import main
from gzkern.config import DataConfig
from gzkern.data import object_tables
from gzkern.data import recentring as module
from gzkern.data.object_search import find_objects
from gzkern.data.objects import COLUMNS
from gzkern.data.pack import open_pack, pack
from gzkern.data.recentring import recentre, recentring, recentring_of, recentring_of_image
from gzkern.errors import GzkernError, InputError

sep = pytest.importorskip("sep")

DATA = DataConfig()
GEN2 = replace(DATA, recentre="gen2")


@pytest.fixture
def root(tmp_path):
    return kaggle_folder(tmp_path / "data")


@pytest.fixture
def packed(root, tmp_path):
    out = tmp_path / "pack"
    pack_kaggle(root, out)
    return out


def forbidden(*arguments, **options):
    raise AssertionError("found anew")


@pytest.mark.parametrize("threshold_set", ["gen1", "gen2"])
def test_a_pack_keeps_what_was_found(packed, threshold_set, monkeypatch):
    data = replace(DATA, recentre=threshold_set)
    dataset = open_pack(packed)
    objects = find_objects(dataset.images, threshold_set, progress=False)
    first = recentring_of(dataset, data, progress=False)
    np.testing.assert_array_equal(first, recentring(objects, data))
    lines = (packed / f"objects_{threshold_set}.csv").read_text().splitlines()
    digest = json.loads((packed / "pack.json").read_text())["files"]["images.npy"]["sha256"]
    assert lines[0].startswith(f"# set {threshold_set}; images.npy sha256 {digest}; gzkern ")
    assert lines[0].endswith(f"; sep {sep.__version__}")
    assert lines[1] == "id,x,y,a,b,theta,petro"
    assert [line.split(",")[0] for line in lines[2:]] == list(dataset.ids)
    np.testing.assert_array_equal([[float(c) for c in line.split(",")[1:]] for line in lines[2:]], objects)
    monkeypatch.setattr(module, "find_objects", forbidden)
    np.testing.assert_array_equal(recentring_of(open_pack(packed, verify=True), data, progress=False), first)


def test_without_sep_what_is_stored_serves(packed, monkeypatch):
    first = recentring_of(open_pack(packed), GEN2, progress=False)
    monkeypatch.setitem(sys.modules, "sep", None)
    np.testing.assert_array_equal(recentring_of(open_pack(packed), GEN2, progress=False), first)
    message = r'^recentring needs sep .*; run: pip install "gzkern\[astro\]", or run gzkern recentre PACK'
    with pytest.raises(InputError, match=message):
        recentring_of(open_pack(packed), replace(DATA, recentre="gen1"), progress=False)
    with pytest.raises(InputError, match=message):
        recentring_of_image(np.zeros((48, 48, 3), np.uint8), GEN2)
    with pytest.raises(InputError, match=message):
        recentre(packed)


def test_no_recentring(packed):
    assert recentring_of(open_pack(packed), DATA) is None
    assert recentring_of_image(np.zeros((48, 48, 3), np.uint8), DATA) is None
    assert not list(packed.glob("objects*"))


def test_one_image_and_a_folder_are_recentred_as_the_pack_is(packed):
    dataset = open_pack(packed)
    expected = recentring_of(dataset, GEN2, progress=False)
    got = np.concatenate([recentring_of_image(image, GEN2) for image in dataset.images])
    np.testing.assert_array_equal(got, expected)
    folder = replace(dataset, path=None, images=np.array(dataset.images))
    np.testing.assert_array_equal(recentring_of(folder, GEN2, progress=False), expected)


def test_a_pack_that_cannot_be_written(packed, monkeypatch, capsys):
    def full(path, content):
        raise GzkernError(f"{path}: not written (no space left on device)")

    monkeypatch.setattr(object_tables, "write_atomically", full)
    expected = recentring(find_objects(open_pack(packed).images, "gen2", progress=False), GEN2)
    capsys.readouterr()
    np.testing.assert_array_equal(recentring_of(open_pack(packed), GEN2, progress=True), expected)
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("gzkern:")]
    assert said == [
        f"gzkern: {packed}/objects_gen2.csv: not written (no space left on device); "
        "the objects serve this run and are found anew by the next"
    ]
    recentring_of(open_pack(packed), GEN2, progress=False)
    assert capsys.readouterr().err == ""


def test_what_is_not_sound_is_refused(packed, root, tmp_path):
    recentring_of(open_pack(packed), GEN2, progress=False)
    path = packed / "objects_gen2.csv"
    sound = path.read_text()
    lines = sound.splitlines()
    cells = lines[4].split(",")

    def refused(text, message, mend="; run"):
        path.write_text(text)
        mend += f" gzkern recentre {packed} --set gen2 --overwrite$"
        with pytest.raises(InputError, match=f"^{path}: {message}{mend}"):
            recentring_of(open_pack(packed), GEN2, progress=False)

    def with_row(*row):
        return "\n".join([*lines[:4], ",".join(row), *lines[5:]]) + "\n"

    refused("", "does not begin with a line on set, images and versions")
    refused("\n".join(lines[1:]) + "\n", "does not begin with a line on set, images and versions")
    refused(sound.replace("# set gen2", "# set gen1"), "holds the objects of set gen1, expected gen2")
    refused(
        sound[: sound.index("sha256 ") + 7] + "0" * 64 + sound[sound.index("; gzkern") :], "belongs to another pack"
    )
    refused(sound.replace("petro", "kron"), "its columns are id, x, y, a, b, theta, kron, expected id, x, y, a, .*")
    refused(lines[0] + "\n", "its columns are missing, expected id, .*")
    refused(sound[:-1], "was cut short")
    refused(sound[: len(sound) // 2], "was cut short")
    refused("\n".join(lines[:-3]) + "\n", "was cut short: 9 rows of 12")
    refused(sound + lines[-1] + "\n", "row 15: one more than the 12 images of the pack")
    refused(with_row("999", *cells[1:]), f"row 5: id 999, expected {cells[0]} as in the pack")
    refused("\n".join([*lines[:2], *lines[3:]]) + "\n", "row 3: id 102, expected 101 as in the pack")
    refused(with_row(*cells[:-1]), "row 5: 6 cells, expected 7")
    refused(with_row(*cells[:-1], "5,5"), "row 5: 8 cells, expected 7")
    inside, above = "from -0.5 to 47.5, in the image", "above 0, or nan"
    for column, bad, expected in (
        *(("x", "nan", inside), ("x", "inf", inside), ("x", "47.6", inside), ("y", "-0.6", inside), ("y", "", inside)),
        *(("theta", "inf", ", or nan"), ("theta", "north", ", or nan")),
        *(("a", "0", above), ("b", "-1", above), ("petro", "inf", above), ("a", "none", above)),
    ):
        row = dict(zip(("id", *COLUMNS), cells, strict=True)) | {column: bad}
        message = f"row 5, column {column}: '{bad}', expected a number ?{expected}"
        refused(with_row(*row.values()), message, "; correct it, or find all anew by")
    path.write_bytes(b"\x00\xff")
    with pytest.raises(InputError, match="not a text file"):
        recentring_of(open_pack(packed), GEN2, progress=False)
    path.write_text(with_row(cells[0], "20.5", "21.25", "nan", "nan", "nan", "nan"))  # mended by hand
    np.testing.assert_array_equal(recentring_of(open_pack(packed), GEN2, progress=False)[2], [20.5, 21.25, 1.0])


def test_another_pack_of_the_same_ids_is_told(packed, root, tmp_path):
    recentring_of(open_pack(packed), GEN2, progress=False)
    (root / "images_training_rev1/101.jpg").write_bytes((root / "images_training_rev1/102.jpg").read_bytes())
    other = tmp_path / "other"
    pack(root / "images_training_rev1", None, other, TREE, smallest=SIDE, progress=False)
    (other / "objects_gen2.csv").write_bytes((packed / "objects_gen2.csv").read_bytes())
    with pytest.raises(InputError, match="belongs to another pack"):
        recentring_of(open_pack(other), GEN2, progress=False)


def test_cropped_packs_are_refused(root, tmp_path):
    out = tmp_path / "cropped"
    pack(root / "images_training_rev1", None, out, TREE, smallest=24, crop=30, progress=False)
    message = (
        rf"^{out}: holds the central 30×30 pixels of its images, .* whole ones; run gzkern pack again without --crop"
    )
    with pytest.raises(InputError, match=message):
        recentring_of(open_pack(out), GEN2)
    with pytest.raises(InputError, match=message):
        recentre(out)


# The command


def test_recentre_ahead(packed, capsys):
    assert main(["recentre", str(packed), "--workers", "2"]) == 0
    missing = int(np.isnan(find_objects(open_pack(packed).images, "gen1", progress=False)[:, 2]).sum())
    out = capsys.readouterr().out.splitlines()
    assert out[0] == f"wrote {packed}/objects_gen1.csv: 12 images, {missing} of them without an object"
    assert out[1].startswith(f"wrote {packed}/objects_gen2.csv: 12 images, ")
    stored = (packed / "objects_gen2.csv").read_bytes()
    assert main(["recentre", str(packed), "--set", "gen2"]) == 2
    assert capsys.readouterr().err.splitlines()[-1] == (
        f"gzkern: {packed}/objects_gen2.csv: already exists; pass --overwrite to find the objects anew"
    )
    (packed / "objects_gen1.csv").unlink()
    assert main(["recentre", str(packed)]) == 0  # what is missing
    assert capsys.readouterr().out.splitlines() == out[:1]
    (packed / "objects_gen2.csv").write_text("rubbish")
    (packed / "objects_gen1.csv").unlink()
    assert main(["recentre", str(packed), "--set", "gen2", "--overwrite", "--workers", "1"]) == 0
    assert (packed / "objects_gen2.csv").read_bytes() == stored
    assert not (packed / "objects_gen1.csv").exists()


@pytest.mark.parametrize("workers", ["0", "-1"])
def test_recentre_with_bad_arguments(packed, capsys, workers):
    assert main(["recentre", str(packed), "--workers", workers]) == 2
    assert f"--workers {workers}: expected 1 to 256 processes" in capsys.readouterr().err
    assert not list(packed.glob("*objects*"))


def test_recentre_what_is_no_pack(tmp_path, capsys):
    assert main(["recentre", str(tmp_path / "none")]) == 2
    assert "is not a pack" in capsys.readouterr().err


def test_an_interrupted_command_leaves_nothing(packed, monkeypatch, capsys):
    monkeypatch.setattr(module, "find_objects", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
    assert main(["recentre", str(packed)]) == 1
    assert "interrupted" in capsys.readouterr().err
    assert not list(packed.glob("*objects*"))
    assert not list(packed.glob(".*objects*"))
