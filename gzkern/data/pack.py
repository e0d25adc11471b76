"""Packs: a data set decoded once into a directory that opens at once and is read by memory map.

A pack holds ``images.npy`` (n, H, W, 3) uint8, ``labels.npy`` (n, answers) float32 unless it has no labels,
``index.csv`` (the id and file of each row), ``quarantine.csv`` (what was left out and why) and ``pack.json``
(shape, answers, origin, and the size and SHA-256 of each file).
"""

from __future__ import annotations

import csv
import hashlib
import json
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ..decision_tree import DecisionTree
from ..errors import InputError
from ..files import new_directory
from .labels import read_labels
from .loading import Candidate, Dataset, Loader, Quarantined
from .tables import read_rows

_VERSION = 1
_IMAGES = "images.npy"
_LABELS = "labels.npy"
_INDEX = "index.csv"
_QUARANTINE = "quarantine.csv"
_META = "pack.json"


@dataclass(frozen=True)
class PackSummary:
    """What ``pack`` wrote: ``count`` images of ``image_shape`` (H, W, 3), and what it left out."""

    path: Path
    count: int
    image_shape: tuple[int, ...]
    quarantined: tuple[Quarantined, ...]


def pack(
    folder: str | Path,
    labels_csv: str | Path | None,
    out: str | Path,
    tree: DecisionTree,
    *,
    smallest: int = 207,
    overwrite: bool = False,
    progress: bool = True,
) -> PackSummary:
    """Decode a folder of images into a pack, in the order of the label file.

    Files that cannot be used are listed in ``quarantine.csv`` and the job goes on. The pack appears whole or
    not at all.

    Args:
        folder: the images, each named by its id.
        labels_csv: their labels; None packs every image, in the order of the ids.
        out: the directory to write.
        tree: the decision tree the labels answer.
        smallest: the least height and width of an image, in pixels.
        overwrite: replace the pack that stands at ``out``.
        progress: show a bar on stderr.

    Raises:
        InputError: bad labels, no usable image, no room on the disk, or ``out`` exists.
        GzkernError: writing failed midway.
    """
    folder, out = Path(folder), Path(out)
    if overwrite and out.is_dir() and any(out.iterdir()) and not is_pack(out):
        raise InputError(f"{out}: is not a pack, so it is not overwritten; choose another name")
    labels = None if labels_csv is None else read_labels(labels_csv, tree)
    loader = Loader(folder, labels, smallest=smallest, progress=progress)
    _require_space(out, loader.most_bytes)
    with new_directory(out, overwrite=overwrite) as partial:
        used = _write_images(partial / _IMAGES, loader)
        if labels is not None:
            np.save(partial / _LABELS, labels.fractions[[candidate.row for candidate in used]])
        _write_csv(partial / _INDEX, ("id", "file"), ((c.id, c.path.name) for c in used))
        _write_csv(partial / _QUARANTINE, Quarantined._fields, loader.quarantined)
        meta = {
            "version": _VERSION,
            "count": len(used),
            "image_shape": loader.shape,
            "tree": None if labels is None else tree.name,
            "columns": () if labels is None else tree.columns,
            "quarantined": len(loader.quarantined),
            "images_from": str(folder.absolute()),
            "labels_from": None if labels_csv is None else str(Path(labels_csv).absolute()),
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "files": {file.name: _describe(file) for file in sorted(partial.iterdir())},
        }
        meta["checksum"] = _checksum(meta)
        (partial / _META).write_text(json.dumps(meta, indent=2, ensure_ascii=False) + "\n", "utf-8")
    return PackSummary(out, len(used), loader.shape, tuple(loader.quarantined))


def is_pack(path: str | Path) -> bool:
    """Whether ``path`` is a directory that ``pack`` wrote, sound or not."""
    return (Path(path) / _META).is_file()


def open_pack(path: str | Path, *, verify: bool = False) -> Dataset:
    """Open a pack; its images stay on the disk and are read as they are used.

    Args:
        path: the directory.
        verify: hash the images too, which reads all of them; the other files are hashed always.

    Raises:
        InputError: the pack is incomplete, altered, or of another version of gzkern.
    """
    path = Path(path)
    meta = _read_meta(path)
    for name, expected in meta["files"].items():
        _require_unaltered(path, name, expected, hashed=verify or name != _IMAGES)
    columns = tuple(meta["columns"])
    ids = tuple(cells[0] for _, cells in read_rows(path / _INDEX))[1:]
    quarantined = tuple(Quarantined(*cells) for _, cells in read_rows(path / _QUARANTINE))[1:]
    labels = np.load(path / _LABELS) if columns else None
    try:
        images = np.load(path / _IMAGES, mmap_mode="r")
    except ValueError as error:
        raise _altered(path, f"{_IMAGES} cannot be read ({error})") from None
    expected_shape = (meta["count"], *meta["image_shape"])
    if images.shape != expected_shape or images.dtype != np.uint8:
        raise _altered(path, f"{_IMAGES} is {images.shape} {images.dtype}, expected {expected_shape} uint8")
    return Dataset(ids, images, labels, columns, quarantined)


def _require_space(out: Path, needed: int) -> None:
    existing = next(folder for folder in out.absolute().parents if folder.exists())
    free = shutil.disk_usage(existing).free
    if free < needed:
        raise InputError(f"{out}: the pack needs {needed / 2**30:.2f} GiB, only {free / 2**30:.2f} GiB are free there")


def _write_images(path: Path, loader: Loader) -> list[Candidate]:
    used = []
    with path.open("wb") as file:
        _write_header(file, len(loader.candidates), loader.shape)
        for candidate, image in loader:
            file.write(image.tobytes())
            used.append(candidate)
        file.seek(0)  # numpy pads the header, so that its length does not depend on the count
        _write_header(file, len(used), loader.shape)
    return used


def _write_header(file: BinaryIO, count: int, shape: tuple[int, ...]) -> None:
    np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": (count, *shape)})


def _write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    # A file name need not be valid Unicode.
    with path.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def _describe(path: Path) -> dict[str, Any]:
    return {"bytes": path.stat().st_size, "sha256": _sha256(path)}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _checksum(meta: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(meta, sort_keys=True).encode()).hexdigest()


def _read_meta(path: Path) -> dict[str, Any]:
    if not is_pack(path):
        raise InputError(f"{path}: is not a pack (no {_META}); make one with: gzkern pack")
    try:
        meta = json.loads((path / _META).read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise _altered(path, f"{_META} cannot be read ({error})") from None
    if not isinstance(meta, dict) or "version" not in meta:
        raise _altered(path, f"{_META} does not describe a pack")
    if meta["version"] != _VERSION:
        raise InputError(
            f"{path}: pack version {meta['version']}, this gzkern reads version {_VERSION}; run gzkern pack again"
        )
    if meta.pop("checksum", None) != _checksum(meta):
        raise _altered(path, f"{_META} was edited")
    return meta


def _require_unaltered(path: Path, name: str, expected: dict[str, Any], *, hashed: bool) -> None:
    file = path / name
    if not file.is_file():
        raise _altered(path, f"{name} is missing")
    if (size := file.stat().st_size) != expected["bytes"]:
        raise _altered(path, f"{name} has {size:,} bytes, expected {expected['bytes']:,}")
    if hashed and _sha256(file) != expected["sha256"]:
        raise _altered(path, f"{name} was changed")


def _altered(path: Path, what: str) -> InputError:
    return InputError(f"{path}: the pack is incomplete or altered: {what}; run gzkern pack again")
