"""Recentring and rescaling: every galaxy in the middle of its crop, and of one size (the original's "pysex" networks).

The objects of a pack are found once and stored in it, as ``objects_gen1.csv`` and ``objects_gen2.csv``: a first line
that names the set, the images and the versions, a header, and a row an image.
"""

from __future__ import annotations

import csv
import io
import json
import math
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from .. import __version__
from ..config import DataConfig
from ..core.files import write_atomically
from ..errors import GzkernError, InputError
from .dataset import Dataset
from .objects import COLUMNS, DETECT_THRESH, find_object, find_objects, require_sep
from .pack import open_pack
from .tables import read_rows

__all__ = ["Recentred", "find_object", "find_objects", "recentre", "recentring", "recentring_of", "recentring_of_image"]

_RADIUS = 160 / 3  # samples of a crop, to which the Petrosian radius is brought (160 pixels at the original's scale)
_MOST = 1.5  # the factor by which an image is magnified or made smaller at most
_HEADER = ("id", *COLUMNS)
_FIRST_LINE = re.compile(r"# set (?P<set>\w+); images\.npy sha256 (?P<images>[0-9a-f]{64}); gzkern \S+; sep \S+")


class Recentred(NamedTuple):
    """A file of objects that was written: of ``images`` images, ``missing`` of them without an object."""

    path: Path
    images: int
    missing: int


def recentring(objects: np.ndarray, data: DataConfig) -> np.ndarray:
    """From objects to what recentres and rescales their images.

    s = r / (petro · a) for r = 160 pixels at the original's 3 pixels a sample, and in proportion at other scales; 1
    without an object; at most 1.5, at least 1/1.5.

    Args:
        objects: (n, 6) float64, see ``objects.COLUMNS``.
        data: the crop.

    Returns:
        (n, 3) float64: x, y and s as ``augment.geometry.crop_matrices`` takes them.
    """
    x, y, a, _, _, petro = objects.T
    s = _RADIUS * data.scale / (petro * a)
    s = np.clip(np.where(np.isnan(s), 1.0, s), 1 / _MOST, _MOST)
    return np.stack([x, y, s], axis=1)


def recentring_of(dataset: Dataset, data: DataConfig, *, progress: bool = True) -> np.ndarray | None:
    """What recentres the images of a data set, as ``data.recentre`` says.

    It is read from the pack, or else computed and stored there; of a folder of images it is computed.

    Args:
        dataset: its images must be whole.
        data: the configuration.
        progress: show a bar, and what could not be stored, on stderr.

    Returns:
        (n, 3) float64, see :func:`recentring`; None for "none".

    Raises:
        InputError: the images are cropped, what is stored is not sound, or sep is not installed and needed.
        GzkernError: an image could not be searched.
    """
    if data.recentre == "none":
        return None
    _require_whole_images(dataset)
    path = None if dataset.path is None else _file_of(dataset.path, data.recentre)
    if path and path.exists():
        return recentring(_read(path, dataset, data.recentre), data)
    objects = find_objects(dataset.images, data.recentre, progress=progress, ids=dataset.ids)
    if path:
        try:
            _write(path, dataset, data.recentre, objects)
        except GzkernError as error:
            if progress:
                print(f"gzkern: {error}; the objects serve this run and are found anew by the next", file=sys.stderr)
    return recentring(objects, data)


def recentring_of_image(image: np.ndarray, data: DataConfig) -> np.ndarray | None:
    """What recentres one image, (H, W, 3) uint8, as ``data.recentre`` says; any number of threads may ask at a time.

    Returns:
        (1, 3) float64, see :func:`recentring`; None for "none".

    Raises:
        InputError: sep is not installed.
    """
    if data.recentre == "none":
        return None
    return recentring(find_object(image, data.recentre)[np.newaxis], data)


def recentre(
    pack: str | Path,
    sets: Sequence[str] = tuple(DETECT_THRESH),
    *,
    workers: int | None = None,
    overwrite: bool = False,
    progress: bool = True,
) -> list[Recentred]:
    """Find the objects of a pack ahead, and store them in it.

    Args:
        pack: the directory.
        sets: "gen1", "gen2", or both.
        workers: processes; one a core if left out.
        overwrite: replace what is stored; else only sets that are not are found.
        progress: show bars on stderr.

    Raises:
        InputError: no sound pack, its images are cropped, objects are stored already, the directory is not writable,
            or sep is not installed.
        GzkernError: an image could not be searched.
    """
    pack = Path(pack)
    require_sep()
    dataset = open_pack(pack, progress=progress)
    _require_whole_images(dataset)
    paths = {name: _file_of(pack, name) for name in sets}
    if not overwrite:
        there = [path for path in paths.values() if path.exists()]
        if len(there) == len(paths):
            raise InputError(f"{there[0]}: already exists; pass --overwrite to find the objects anew")
        paths = {name: path for name, path in paths.items() if path not in there}  # what is missing
    if not os.access(pack, os.W_OK):
        raise InputError(f"{pack}: is not writable, so the objects cannot be stored there")
    written = []
    for name, path in paths.items():
        objects = find_objects(dataset.images, name, workers=workers, progress=progress, ids=dataset.ids)
        _write(path, dataset, name, objects)
        written.append(Recentred(path, len(objects), int(np.isnan(objects[:, 2]).sum())))
    return written


def _require_whole_images(dataset: Dataset) -> None:
    height, width = dataset.images.shape[1:3]
    if (height, width) != dataset.whole_size:
        raise InputError(
            f"{dataset.path}: holds the central {width}×{height} pixels of its images, but recentring needs whole "
            "ones; run gzkern pack again without --crop"
        )


# The stored objects


def _file_of(pack: Path, threshold_set: str) -> Path:
    return pack / f"objects_{threshold_set}.csv"


def _digest_of_images(pack: Path) -> str:
    """The SHA-256 of the pack's images, as it stands in ``pack.json``, which was checked when the pack was opened."""
    return json.loads((pack / "pack.json").read_text("utf-8"))["files"]["images.npy"]["sha256"]


def _write(path: Path, dataset: Dataset, threshold_set: str, objects: np.ndarray) -> None:
    import sep

    text = io.StringIO()
    digest = _digest_of_images(path.parent)
    text.write(f"# set {threshold_set}; images.npy sha256 {digest}; gzkern {__version__}; sep {sep.__version__}\n")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_HEADER)
    writer.writerows([id_, *row] for id_, row in zip(dataset.ids, objects.tolist(), strict=True))
    write_atomically(path, text.getvalue().encode())


def _read(path: Path, dataset: Dataset, threshold_set: str) -> np.ndarray:
    """(n, 6) float64; refused where it is not of these images or not whole."""

    def refused(what: str) -> InputError:
        return InputError(f"{path}: {what}; run gzkern recentre {path.parent} --set {threshold_set} --overwrite")

    rows = read_rows(path)
    first = _FIRST_LINE.fullmatch(",".join(next(rows, (0, []))[1]))
    if not first:
        raise refused("does not begin with a line on set, images and versions")
    if first["set"] != threshold_set:
        raise refused(f"holds the objects of set {first['set']}, expected {threshold_set}")
    if first["images"] != _digest_of_images(path.parent):
        raise refused("belongs to another pack")
    header = tuple(next(rows, (0, []))[1])
    if header != _HEADER:
        raise refused(f"its columns are {', '.join(header) or 'missing'}, expected {', '.join(_HEADER)}")
    if not path.read_bytes().endswith(b"\n"):
        raise refused("was cut short")
    objects = np.empty((len(dataset), len(COLUMNS)))
    count = 0
    for line, cells in rows:
        if count == len(dataset):
            raise refused(f"row {line}: one more than the {count:,} images of the pack")
        if len(cells) != len(_HEADER):
            raise refused(f"row {line}: {len(cells)} cells, expected {len(_HEADER)}")
        if cells[0] != dataset.ids[count]:
            raise refused(f"row {line}: id {cells[0]}, expected {dataset.ids[count]} as in the pack")
        for column, cell in zip(COLUMNS, cells[1:], strict=True):
            if (wanted := _unlike(column, cell, dataset.whole_size)) is not None:
                raise InputError(
                    f"{path}: row {line}, column {column}: {cell!r}, expected {wanted}; correct it, or find all anew "
                    f"by gzkern recentre {path.parent} --set {threshold_set} --overwrite"
                )
        objects[count] = [float(cell) for cell in cells[1:]]
        count += 1
    if count < len(dataset):
        raise refused(f"was cut short: {count:,} rows of {len(dataset):,}")
    return objects


def _unlike(column: str, cell: str, size: tuple[int, int]) -> str | None:
    """What is expected in a column, where the cell is not that; ``size`` is (height, width) of the images."""
    try:
        value = float(cell)
    except ValueError:
        value = math.inf
    if column in ("x", "y"):
        extent = size[1] if column == "x" else size[0]
        return None if -0.5 <= value <= extent - 0.5 else f"a number from -0.5 to {extent - 0.5}, in the image"
    if math.isnan(value):
        return None
    if column == "theta":
        return None if math.isfinite(value) else "a number, or nan"
    return None if 0 < value < math.inf else "a number above 0, or nan"
