"""Prediction: rows, images and files give the same answers; tables are written whole; bad files are skipped."""

import csv
import os
import shutil
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from gzkern.data.images import decode
from gzkern.data.opening import open_dataset
from gzkern.decision_trees.tree import load_tree
from gzkern.errors import InputError
from gzkern.prediction.arrays import predict_rows
from gzkern.prediction.files import predict_files
from gzkern.runs.run import load


def predict_to(run, sources, out, **options):
    """``predict_files`` by a run, without a bar."""
    return predict_files(run.predictor, run.config.data, sources, out, progress=False, **options)


def image_files(demo_folder):
    return sorted((demo_folder / "images_training_rev1").glob("*.jpg"))


def read_table(path):
    with path.open() as file:
        header, *rows = csv.reader(file)
    return header, {row[0]: np.array(row[1:], float) for row in rows}


def test_rows_images_and_files_agree(demo_run, demo_pack, demo_folder, tmp_path):
    dataset = open_dataset(demo_pack, load_tree(), smallest=207, reach=0)
    rows = np.arange(7)
    expected = predict_rows(demo_run.predictor, demo_run.config.data, dataset.images, rows, batch=3)
    assert expected.shape == (7, 37)
    images = [decode(path, smallest=207) for path in image_files(demo_folder)[:7]]
    np.testing.assert_allclose(load(demo_run.path).predict(images, batch=2), expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(demo_run.predict(np.stack(images)), expected, rtol=1e-5, atol=1e-6)
    summary = predict_to(demo_run, image_files(demo_folder)[:7], tmp_path / "a.csv", batch=4)
    assert summary.predicted == 7
    assert summary.skipped == ()
    header, table = read_table(tmp_path / "a.csv")
    assert header == ["GalaxyID", *load_tree().columns]
    assert list(table) == list(dataset.ids[:7])
    np.testing.assert_allclose(np.stack(list(table.values())), expected, rtol=1e-5, atol=1e-6)


def test_a_pack_gives_what_its_files_give(demo_run, demo_pack, demo_folder, tmp_path):
    predict_to(demo_run, [demo_folder / "images_training_rev1"], tmp_path / "a.csv")
    assert predict_to(demo_run, [demo_pack], tmp_path / "b.csv", batch=7).predicted == 40
    (header, files), (header_of_pack, rows) = (read_table(tmp_path / name) for name in ("a.csv", "b.csv"))
    assert header == header_of_pack
    assert list(files) == list(rows)
    for id_, answers in files.items():
        np.testing.assert_allclose(rows[id_], answers, rtol=1e-5, atol=1e-6)
    with pytest.raises(InputError, match="pack: is a pack; give it alone"):
        predict_to(demo_run, [demo_folder, demo_pack], tmp_path / "c.csv")


@pytest.mark.parametrize("device", ["cpu", pytest.param("emulated", marks=pytest.mark.gxx)])
def test_recentred_images_give_the_same_from_everywhere(device, demo_run, demo_pack, demo_folder, tmp_path):
    pytest.importorskip("sep")
    shutil.copytree(demo_run.path, tmp_path / "run")
    config_file = tmp_path / "run" / "config.toml"
    config_file.write_text(config_file.read_text().replace('recentre = "none"', 'recentre = "gen2"'))
    run = load(tmp_path / "run", device)
    shutil.copytree(demo_pack, tmp_path / "pack")
    predict_to(run, [tmp_path / "pack"], tmp_path / "pack.csv")
    predict_to(run, [demo_folder / "images_training_rev1"], tmp_path / "files.csv")
    _, rows = read_table(tmp_path / "pack.csv")
    _, files = read_table(tmp_path / "files.csv")
    first = image_files(demo_folder)[:3]
    images = dict(zip((p.stem for p in first), run.predict([decode(p, smallest=207) for p in first]), strict=True))
    plain = demo_run.predict([decode(path, smallest=207) for path in first])
    for answers, path in zip(plain, first, strict=True):
        assert abs(answers - rows[path.stem]).max() > 1e-4
        np.testing.assert_allclose(images[path.stem], rows[path.stem], rtol=1e-4, atol=1e-5)
    for id_, answers in files.items():
        np.testing.assert_allclose(rows[id_], answers, rtol=1e-4, atol=1e-5)


def test_images_of_other_sizes(demo_run):
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (*size, 3), np.uint8) for size in ((207, 207), (300, 424), (500, 210))]
    answers = demo_run.predict(images)
    assert answers.shape == (3, 37)
    np.testing.assert_allclose(answers[1], demo_run.predict(images[1:2])[0], rtol=1e-5, atol=1e-6)
    assert demo_run.predict([]).shape == (0, 37)
    with pytest.raises(InputError, match="batch 0"):
        demo_run.predict(images, batch=0)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((206, 424, 3), np.uint8), "424×206 pixels, fewer than the 207-pixel crop"),
        (np.zeros((424, 424), np.uint8), "expected uint8"),
        (np.zeros((424, 424, 3), np.float32), "expected uint8"),
    ],
)
def test_images_that_cannot_be_used(demo_run, image, message):
    good = np.zeros((424, 424, 3), np.uint8)
    with pytest.raises(InputError) as caught:
        demo_run.predict([good, image])
    assert message in str(caught.value)
    assert "image 1" in str(caught.value)


def test_bad_files_are_skipped_with_a_reason(demo_run, demo_folder, tmp_path):
    folder = tmp_path / "mixed"
    folder.mkdir()
    good = image_files(demo_folder)[:3]
    for path in good:
        shutil.copy(path, folder)
    (folder / "1.jpg").write_bytes(good[0].read_bytes()[:5000])
    (folder / "2.jpg").write_bytes(b"not an image")
    (folder / "3.png").write_bytes(b"")
    Image.new("RGB", (100, 100)).save(folder / "4.png")
    Image.new("L", (424, 424), 40).save(folder / "5.png")
    summary = predict_to(demo_run, [folder], tmp_path / "a.csv")
    assert summary.predicted == 4
    assert {id_: reason.split(" ")[0] for _, id_, reason in summary.skipped} == {
        "1": "truncated", "2": "not", "3": "empty", "4": "100×100",
    }  # fmt: skip
    _, table = read_table(tmp_path / "a.csv")
    assert set(table) == {"5", *(path.stem for path in good)}


def test_parquet_and_a_catalogue(demo_run, demo_folder, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    paths = image_files(demo_folder)[:2]
    catalogue = tmp_path / "catalogue.csv"
    catalogue.write_text("objid,file\n" + "".join(f"J{i},{path}\n" for i, path in enumerate(paths)))
    predict_to(demo_run, [catalogue], tmp_path / "a.parquet")
    table = parquet.read_table(tmp_path / "a.parquet")
    assert table.column_names == ["GalaxyID", *load_tree().columns]
    assert table["GalaxyID"].to_pylist() == ["J0", "J1"]
    assert np.isfinite(table["Class1.1"].to_numpy()).all()


def test_bad_destinations_and_sources(demo_run, demo_folder, tmp_path):
    images = image_files(demo_folder)[:1]
    with pytest.raises(InputError, match=r"ends in \.csv or \.parquet"):
        predict_to(demo_run, images, tmp_path / "a.txt")
    (tmp_path / "a.csv").write_text("precious")
    with pytest.raises(InputError, match="already exists"):
        predict_to(demo_run, images, tmp_path / "a.csv")
    assert (tmp_path / "a.csv").read_text() == "precious"
    predict_to(demo_run, images, tmp_path / "a.csv", overwrite=True)
    assert "precious" not in (tmp_path / "a.csv").read_text()
    with pytest.raises(InputError, match="cannot be written"):
        predict_to(demo_run, ["/no/such/image.jpg"], tmp_path / "none" / "a.csv")
    (tmp_path / "bad.jpg").write_bytes(b"x")
    with pytest.raises(InputError, match="none of 1 files can be used"):
        predict_to(demo_run, [tmp_path / "bad.jpg"], tmp_path / "b.csv")
    assert not (tmp_path / "b.csv").exists()
    with pytest.raises(InputError, match="--batch 0: expected at least 1 image"):
        predict_to(demo_run, images, tmp_path / "b.csv", batch=0)


def test_a_file_name_that_is_not_unicode(demo_run, demo_folder, tmp_path):
    name = os.fsdecode(b"caf\xe9.jpg")
    shutil.copy(image_files(demo_folder)[0], tmp_path / name)
    predict_to(demo_run, [tmp_path / name], tmp_path / "a.csv")
    assert list(read_table(tmp_path / "a.csv")[1]) == ["caf\\udce9"]


def test_runs_that_cannot_be_loaded(demo_run, tmp_path):
    with pytest.raises(InputError, match="not a run"):
        load(tmp_path)
    (tmp_path / "config.toml").write_bytes(demo_run.config_file.read_bytes())
    with pytest.raises(InputError, match="neither weights"):
        load(tmp_path).predict([])
    (tmp_path / "weights.safetensors").write_bytes(demo_run.weights_file.read_bytes()[:1000])
    with pytest.raises(InputError, match="not a readable safetensors file"):
        load(tmp_path).predict([])


def test_a_run_that_goes_on_predicts_from_its_last_checkpoint(demo_run, tmp_path):
    shutil.copytree(demo_run.path, tmp_path / "run")
    (tmp_path / "run" / "weights.safetensors").unlink()
    image = np.full((1, 424, 424, 3), 9, np.uint8)
    np.testing.assert_array_equal(load(tmp_path / "run").predict(image), demo_run.predict(image))


def test_a_run_loads_its_network_once_for_several_threads(demo_run):
    run = load(demo_run.path)
    with ThreadPoolExecutor(4) as pool:
        networks = list(pool.map(lambda _: run.predictor.network, range(8)))
    assert len({id(network) for network in networks}) == 1
