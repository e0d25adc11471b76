"""The benchmark of augmentation: engines do the same work, what is wrong is refused, rows and tables are complete."""

import json
import sys

import numpy as np
import pytest

from benchmarks import augment, tables
from benchmarks.baselines import warp_engines
from gzkern.augment.pool import new_staging_buffer
from gzkern.config import load_config
from gzkern.errors import InputError

pytest.importorskip("numba", exc_type=ImportError)
HERE = ["gzkern", "skimage", "scipy"]  # what the tests' own environment has
CONFIG = load_config("paper")


@pytest.fixture
def few(monkeypatch):
    monkeypatch.setattr(augment, "_IMAGES", 20)
    monkeypatch.setattr(augment, "_MOST_FILES", 5)
    monkeypatch.setattr(augment, "_PIECE", 4)
    monkeypatch.setattr(augment, "_WAY", 64)
    monkeypatch.setattr(augment, "_COPIED", 1 << 20)


@pytest.mark.parametrize("name", [*HERE, "opencv", "torch"])
def test_every_engine_does_the_same_work(name):
    package = {"opencv": "cv2"}.get(name)
    if name not in HERE:
        pytest.importorskip(package or name)
    error = augment._error(warp_engines.engine(name), CONFIG)
    assert error <= warp_engines.ERRORS[name]


def test_an_engine_that_writes_too_little_or_the_wrong_is_found():
    ours = warp_engines.engine("gzkern")

    def first_crop_alone(images, indices, matrices, shifts, out):
        whole = np.empty_like(out)
        ours(images, indices, matrices, shifts, whole)
        out[:, 0] = whole[:, 0]

    def without_colour(images, indices, matrices, shifts, out):
        ours(images, indices, matrices, np.zeros_like(shifts), out)

    for wrong in (first_crop_alone, without_colour):
        assert not augment._error(wrong, CONFIG) <= 1e-3


def test_a_missing_package_is_one_sentence(monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(InputError, match="--baseline opencv: needs opencv-python-headless; pip install"):
        warp_engines.engine("opencv")


def test_rows_and_tables(few, demo_folder, tmp_path, capsys):
    path = tmp_path / "rows.json"
    folder = str(demo_folder / "images_training_rev1")
    arguments = ["--baseline", "scipy", "--threads", "1,2", "--samples", "1", "--data", folder, "--json", str(path)]
    assert augment.main(arguments) == 0
    assert "pool over bare warp" in capsys.readouterr().out
    measured = json.loads(path.read_text())
    names = ["warp", "warp", "pool over bare warp", *["pack to batches"] * 2, *["JPEG to batches"] * 2]
    assert [row["name"] for row in measured["rows"]] == names
    for row in measured["rows"]:
        assert row["images_per_s"] == pytest.approx(1e3 / row["ms"])
    warp = measured["rows"][0]
    assert warp["ratio"] == pytest.approx(warp["baseline_ms"] / warp["ms"])
    assert warp["ns_a_sample"] == pytest.approx(1e6 * warp["ms"] / (2 * 69 * 69))
    assert warp["memory_share"] > 0
    path.rename(tmp_path / "augment_cpu.json")
    table = tables.augment_text(tmp_path)
    assert table.count("\n| gzkern |") == table.count("\n| scipy |") == table.count("\n| JPEG |") == 1


def test_bytes_are_those_of_the_rows_that_are_sampled():
    images = np.broadcast_to(np.uint8(0), (3, 424, 424, 3))
    crops = 2 * 69 * 69 * 3 * 4
    touched = (augment._bytes(images, CONFIG) - crops) / (424 * 3)
    assert 250 < touched < 384  # rows: from an upright crop's to those of one at 45°, zoomed out


def test_the_pool_is_timed_to_its_last_batch(few):
    images = np.zeros((4, 424, 424, 3), np.uint8)
    staging_buffer = new_staging_buffer(4, 16, 69, augment._ANSWERS)
    staging_buffer["crops"].fill(np.nan)
    assert augment._pool_seconds(images, CONFIG, staging_buffer, 1, 64) > 0
    assert np.isfinite(staging_buffer["crops"]).all()


@pytest.mark.parametrize(("option", "value"), [("--baseline", "pil"), ("--threads", "0"), ("--samples", "x")])
def test_bad_options(option, value, capsys):
    with pytest.raises(SystemExit) as caught:
        augment.main([option, value])
    assert caught.value.code == 2
    assert value in capsys.readouterr().err


def test_a_folder_without_jpegs(tmp_path):
    with pytest.raises(InputError, match="no JPEG files in it"):
        augment.main(["--data", str(tmp_path)])
