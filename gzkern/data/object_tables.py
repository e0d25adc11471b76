"""The objects of a pack, stored in it as ``objects_gen1.csv`` and ``objects_gen2.csv``.

A first line names the set, the images and the versions; a header and a row an image follow.
"""

from __future__ import annotations

import io
import json
import math
import re
from pathlib import Path

import numpy as np

from .. import __version__
from ..core.files import write_atomically
from ..errors import InputError
from .dataset import Dataset
from .objects import COLUMNS
from .tables import read_rows, write_rows

_HEADER = ("id", *COLUMNS)
_FIRST_LINE = re.compile(r"# set (?P<set>\w+); images\.npy sha256 (?P<images>[0-9a-f]{64}); gzkern \S+; sep \S+")


def object_file(pack: Path, threshold_set: str) -> Path:
    """Return the path of a set's objects in a pack."""
    return pack / f"objects_{threshold_set}.csv"


def write_objects(path: Path, dataset: Dataset, threshold_set: str, objects: np.ndarray) -> None:
    """Write the objects, (n, 6) float64, whole or not at all; ``path`` lies in the data set's pack."""
    import sep

    text = io.StringIO()
    digest = _digest_of_images(path.parent)
    text.write(f"# set {threshold_set}; images.npy sha256 {digest}; gzkern {__version__}; sep {sep.__version__}\n")
    write_rows(text, _HEADER, ([id_, *row] for id_, row in zip(dataset.ids, objects.tolist(), strict=True)))
    write_atomically(path, text.getvalue().encode())


def read_objects(path: Path, dataset: Dataset, threshold_set: str) -> np.ndarray:
    """Read the objects of a data set, (n, 6) float64.

    Raises:
        InputError: the file is of other images or another set, not whole, or a value cannot be.
    """

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
            if (wanted := _expected(column, cell, dataset.whole_size)) is not None:
                raise InputError(
                    f"{path}: row {line}, column {column}: {cell!r}, expected {wanted}; correct it, or find all anew "
                    f"by gzkern recentre {path.parent} --set {threshold_set} --overwrite"
                )
        objects[count] = [float(cell) for cell in cells[1:]]
        count += 1
    if count < len(dataset):
        raise refused(f"was cut short: {count:,} rows of {len(dataset):,}")
    return objects


def _expected(column: str, cell: str, size: tuple[int, int]) -> str | None:
    """Say what the column expects if the cell is not that, else None; ``size`` is (height, width) of the images."""
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


def _digest_of_images(pack: Path) -> str:
    """The SHA-256 of the pack's images, as it stands in ``pack.json``, which was checked when the pack was opened."""
    return json.loads((pack / "pack.json").read_text("utf-8"))["files"]["images.npy"]["sha256"]
