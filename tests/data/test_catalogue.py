import builtins
import re
from pathlib import Path

import pyarrow
import pytest
from pyarrow import parquet

from gzkern.data.catalogue import read_catalogue
from gzkern.errors import InputError


@pytest.fixture
def folder(tmp_path):
    for name in ("10.jpg", "9.JPEG", "100.png", "notes.txt", ".1.jpg", "deeper/5.jpg"):
        path = tmp_path / "galaxies" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path / "galaxies"


def write_parquet(target, **columns):
    parquet.write_table(pyarrow.table(columns), target)
    return target


def assert_refused(sources, *parts):
    with pytest.raises(InputError, match=".*".join(re.escape(str(part)) for part in parts)):
        read_catalogue(sources)


def test_folder_is_ordered_by_number(folder):
    catalogue = read_catalogue([folder])
    assert catalogue.ids == ("9", "10", "100")
    assert catalogue.paths == (folder / "9.JPEG", folder / "10.jpg", folder / "100.png")


def test_folder_is_ordered_as_text_where_one_id_is_text(folder):
    (folder / "J12.jpg").touch()
    assert read_catalogue([str(folder)]).ids == ("10", "100", "9", "J12")


def test_files_and_patterns_keep_the_order_of_the_sources(folder):
    catalogue = read_catalogue([folder / "100.png", str(folder / "*.[jJ]*")])
    assert catalogue.ids == ("100", "9", "10")


def test_fits_is_listed_with_the_rest(folder):
    for name in ("8.fits", "11.FIT", "9.5.fits.gz", "12.gz"):
        (folder / name).touch()
    assert read_catalogue([folder]).ids == ("10", "100", "11", "8", "9", "9.5")
    (folder / "9.5.fits.gz").rename(folder / "7.fits.gz")
    assert read_catalogue([folder]).ids == ("7", "8", "9", "10", "11", "100")
    assert read_catalogue([folder / "7.fits.gz", str(folder / "*.[fF][iI]*s")]).ids == ("7", "8")
    (folder / "8.fits.gz").touch()
    assert_refused([folder], "id 8 stands twice")


def test_a_name_with_pattern_characters_is_taken_literally(folder):
    (folder / "a[1].jpg").touch()
    assert read_catalogue([folder / "a[1].jpg"]).ids == ("a[1]",)


@pytest.mark.parametrize("id_column", ["id", "GalaxyID", "ObjID", "dr7objid", "id_str"])
@pytest.mark.parametrize("path_column", ["path", "file_loc", "FileName", "file"])
def test_csv_catalogue(tmp_path, id_column, path_column):
    path = tmp_path / "c.csv"
    path.write_text(f"ra,{path_column},{id_column}\n1.5,sub/a.jpg,7\n2.5,/far/b.jpg,587732591714893851\n")
    catalogue = read_catalogue([path])
    assert catalogue.ids == ("7", "587732591714893851")
    assert catalogue.paths == (tmp_path / "sub/a.jpg", Path("/far/b.jpg"))


@pytest.mark.parametrize("ids", [[7, 587732591714893851], ["7", "587732591714893851"]])
def test_parquet_catalogue(tmp_path, ids):
    path = write_parquet(tmp_path / "c.parquet", objid=ids, file_loc=["sub/a.jpg", "/far/b.jpg"], ra=[1.5, 2.5])
    catalogue = read_catalogue([path])
    assert catalogue.ids == ("7", "587732591714893851")
    assert catalogue.paths == (tmp_path / "sub/a.jpg", Path("/far/b.jpg"))


def test_parquet_without_pyarrow(tmp_path, monkeypatch):
    path = write_parquet(tmp_path / "c.parquet", id=[1], path=["a.jpg"])
    real_import = builtins.__import__

    def no_pyarrow(name, *args):
        if name.startswith("pyarrow"):
            raise ImportError(name)
        return real_import(name, *args)

    monkeypatch.setattr(builtins, "__import__", no_pyarrow)
    assert_refused([path], path, 'run: pip install "gzkern[catalog]"')


def test_duplicate_ids_name_both_places(folder, tmp_path):
    catalogue = tmp_path / "c.csv"
    catalogue.write_text("id,path\n1,a.jpg\n9,b.jpg\n")
    assert_refused([folder, catalogue], "id 9 stands twice", folder / "9.JPEG", f"{catalogue}, row 3")
    (folder / "10.png").touch()
    assert_refused([folder], "id 10 stands twice", folder / "10.jpg", folder / "10.png")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no column of ids, expected one of id_str, id, galaxyid, objid, dr7objid; found none"),
        ("path,ra\na.jpg,1\n", "no column of ids"),
        ("id,ra\n1,1\n", "no column of paths, expected one of path, file_loc, filename, file; found id, ra"),
        ("id,path\n1\n", "row 2: 1 cells, expected 2"),
        ("id,path\n1,a.jpg\n,b.jpg\n", "row 3: empty id"),
        ("id,path\n1,\n", "row 2: no path of an image"),
        ("id,path\n", "no images found"),
        ("id,path\n\0\0", "not a text file"),
    ],
)
def test_bad_csv(tmp_path, text, message):
    path = tmp_path / "c.csv"
    path.write_text(text)
    assert_refused([path], path, message)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"id": [1.0, 2.0], "path": ["a", "b"]}, "row 1: id 1.0, expected an integer or text"),
        ({"id": [1, None], "path": ["a", "b"]}, "row 2: empty id"),
        ({"id": [1, 2], "path": ["a", None]}, "row 2: no path of an image"),
        ({"ra": [1, 2], "path": ["a", "b"]}, "no column of ids"),
    ],
)
def test_bad_parquet(tmp_path, columns, message):
    path = write_parquet(tmp_path / "c.parquet", **columns)
    assert_refused([path], path, message)


def test_not_parquet(tmp_path):
    path = tmp_path / "c.parquet"
    path.write_text("id,path\n")
    assert_refused([path], path, "not a Parquet file")


def test_sources_without_images(tmp_path):
    (tmp_path / "notes.txt").touch()
    assert_refused([], "no images given")
    assert_refused([tmp_path], tmp_path, "no images found")
    assert_refused([tmp_path / "*.jpg"], tmp_path / "*.jpg", "no images found")
    assert_refused([tmp_path / "absent"], tmp_path / "absent", "no such file or folder")
    assert_refused([tmp_path / "notes.txt"], "an image (.jpg, .jpeg, .png, .fits, .fit, .fits.gz) or a catalogue")
