"""Catalogues: which images to read, and the id of each."""

from __future__ import annotations

import glob
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from ..errors import InputError
from .images import SUFFIXES, image_id, is_image_name
from .tables import read_rows

_ID_COLUMNS = ("id_str", "id", "galaxyid", "objid", "dr7objid")
_PATH_COLUMNS = ("path", "file_loc", "filename", "file")
_ENDINGS = ", ".join(SUFFIXES)


@dataclass(frozen=True)
class Catalogue:
    """Images to read: ``ids[i]`` is the id of the image in the file ``paths[i]``."""

    ids: tuple[str, ...]
    paths: tuple[Path, ...]


class _Entry(NamedTuple):
    id: str
    path: Path
    place: str  # where the user finds the entry: the file, or a row of a catalogue


def read_catalogue(sources: Sequence[str | Path]) -> Catalogue:
    """List the images that ``sources`` name, in that order.

    A source is a folder of images (JPEG, PNG or FITS; sub-folders are not entered; ordered by id, as numbers where
    all are integers), an image file, a glob pattern of image files, or a CSV or Parquet catalogue. The id of
    a file is its name without the ending. A catalogue needs a column of ids (``id_str``, ``id``,
    ``GalaxyID``, ``objid`` or ``dr7objid``, in any case) and one of paths (``path``, ``file_loc``,
    ``filename`` or ``file``), which are relative to the catalogue's folder. Whether the images of a catalogue
    exist is not looked at here.

    Raises:
        InputError: a source is absent, holds no image or is not a catalogue, or two images have one id.
    """
    places: dict[str, str] = {}
    paths = []
    for source in sources:
        for entry in _entries(source):
            if entry.id in places:
                raise InputError(f"id {entry.id} stands twice: {places[entry.id]} and {entry.place}; ids must differ")
            places[entry.id] = entry.place
            paths.append(entry.path)
    if not paths:
        raise InputError("no images given; name folders, image files or a catalogue")
    return Catalogue(tuple(places), tuple(paths))


def list_images(folder: str | Path) -> list[Path]:
    """List the image files of a folder by id: as numbers where all ids are integers, else as text.

    Raises:
        InputError: the folder cannot be read.
    """
    try:
        return _by_id(path for path in Path(folder).iterdir() if is_image_name(path))
    except OSError as error:
        raise InputError(f"{folder}: cannot be read ({(error.strerror or str(error)).lower()})") from None


def _by_id(paths: Iterable[Path]) -> list[Path]:
    paths = sorted(paths, key=lambda path: (image_id(path), path))
    if all(image_id(path).isascii() and image_id(path).isdigit() for path in paths):
        paths.sort(key=lambda path: int(image_id(path)))
    return paths


def _entries(source: str | Path) -> list[_Entry]:
    path = Path(source)
    if path.is_dir():
        return _require_some(source, [_file_entry(file) for file in list_images(path)])
    if path.exists():
        if is_image_name(path):
            return [_file_entry(path)]
        if path.suffix.lower() == ".csv":
            return _require_some(source, list(_csv_entries(path)))
        if path.suffix.lower() == ".parquet":
            return _require_some(source, list(_parquet_entries(path)))
        raise InputError(f"{path}: expected a folder, an image ({_ENDINGS}) or a catalogue (.csv, .parquet)")
    if glob.has_magic(str(source)):
        matches = (Path(match) for match in glob.glob(str(source)))
        return _require_some(source, [_file_entry(file) for file in _by_id(filter(is_image_name, matches))])
    raise InputError(f"{path}: no such file or folder")


def _require_some(source: str | Path, entries: list[_Entry]) -> list[_Entry]:
    if not entries:
        raise InputError(f"{source}: no images found, expected files ({_ENDINGS}) or rows naming them")
    return entries


def _file_entry(path: Path) -> _Entry:
    return _Entry(image_id(path), path, str(path))


def _csv_entries(path: Path) -> Iterator[_Entry]:
    rows = read_rows(path)
    _, header = next(rows, (0, []))
    id_index, path_index = _find_columns(path, header)
    for line, cells in rows:
        if len(cells) != len(header):
            raise InputError(f"{path}: row {line}: {len(cells)} cells, expected {len(header)} as in the header")
        yield _row_entry(path, line, cells[id_index], cells[path_index])


def _parquet_entries(path: Path) -> Iterator[_Entry]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise InputError(f'{path}: reading Parquet needs pyarrow; run: pip install "gzkern[catalog]"') from None
    try:
        with parquet.ParquetFile(path) as file:
            header = file.schema_arrow.names
            chosen = [header[index] for index in _find_columns(path, header)]
            table = file.read(columns=chosen)
    except (pyarrow.ArrowException, OSError) as error:
        raise InputError(f"{path}: not a Parquet file that can be read ({error})") from None
    ids, paths = (table.column(name).to_pylist() for name in chosen)
    for row, (id_, image) in enumerate(zip(ids, paths, strict=True), start=1):
        # A float holds integers to 2**53 only, fewer than the ids of SDSS.
        if not isinstance(id_, int | str | None) or isinstance(id_, bool):
            raise InputError(f"{path}: row {row}: id {id_!r}, expected an integer or text")
        yield _row_entry(path, row, "" if id_ is None else str(id_).strip(), image)


def _row_entry(catalogue: Path, row: int, id_: str, image: object) -> _Entry:
    place = f"{catalogue}, row {row}"
    if not id_:
        raise InputError(f"{place}: empty id")
    if not image or not isinstance(image, str):
        raise InputError(f"{place}: no path of an image")
    return _Entry(id_, catalogue.parent / image, place)


def _find_columns(path: Path, header: Sequence[str]) -> tuple[int, int]:
    """Find the positions of the id column and of the path column."""
    names = [name.strip().lower() for name in header]

    def find(what: str, accepted: Sequence[str]) -> int:
        for name in accepted:
            if name in names:
                return names.index(name)
        raise InputError(
            f"{path}: no column of {what}, expected one of {', '.join(accepted)}; found {', '.join(header) or 'none'}"
        )

    return find("ids", _ID_COLUMNS), find("paths", _PATH_COLUMNS)
