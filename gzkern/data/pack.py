"""Packs: a data set decoded once into a directory that opens at once and is read by memory map.

A pack holds ``images.npy`` (n, H, W, 3) uint8, ``labels.npy`` (n, answers) float32 unless it has no labels,
``index.csv`` (the id and file of each row), ``quarantine.csv`` (what was left out and why) and ``pack.json``
(shape, what was kept of each image, answers, origin, and the size and SHA-256 of each file), written last.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from ..core.environment import installed_version
from ..decision_trees.tree import DecisionTree
from ..errors import InputError
from .dataset import Dataset
from .journal import IMAGES, Journal
from .labels import Labels, read_labels
from .loading import Loader
from .packing import META, packing
from .quarantine import Quarantined
from .tables import read_rows, write_rows

_VERSION = 2
_LABELS = "labels.npy"
_INDEX = "index.csv"
_QUARANTINE = "quarantine.csv"
_BLOCK = 2**20  # bytes hashed at a time
_DECODERS = ("gzkern", "pillow", "simplejpeg", "astropy")  # on whose versions the pixels may depend


@dataclass(frozen=True)
class PackSummary:
    """Result of ``pack``: ``count`` images of ``image_shape`` (H, W, 3), and the files that were left out."""

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
    smallest: int = 2,
    crop: int | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: bool = True,
) -> PackSummary:
    """Decode a folder of images into a pack, in the order of the label file.

    Files that cannot be used are listed in ``quarantine.csv`` and the job goes on. The pack appears whole or
    not at all. What an interrupted job has done is kept in a hidden folder beside ``out``; with ``resume`` the job
    goes on, and its pack is the uninterrupted one byte for byte.

    Args:
        folder: the images, each named by its id.
        labels_csv: their labels; None packs every image, in the order of the ids.
        out: the directory to write.
        tree: the decision tree the labels answer.
        smallest: the least height and width of an image, in pixels.
        crop: keep the central ``crop`` × ``crop`` pixels of each image; None keeps all.
        resume: go on with an interrupted job; files that were changed since they were packed are packed anew.
        overwrite: replace the pack that stands at ``out``, and drop what an interrupted job has done.
        progress: show bars on stderr.

    Raises:
        InputError: bad labels, no usable image, a crop that cannot be, no room on the disk, ``out`` exists, another
            process packs there; nothing to resume, or a job with other arguments.
        GzkernError: interrupted (by Ctrl-C too) or failed midway; what is done is kept.

    >>> from gzkern.decision_trees.tree import load_tree
    >>> summary = pack("demo/galaxies/images_training_rev1", None, "my-pack", load_tree(), crop=208, progress=False)
    >>> summary.image_shape, summary.quarantined
    ((208, 208, 3), ())
    """
    folder, out = Path(folder), Path(out)
    if resume and overwrite:
        raise InputError("--resume keeps what is packed and --overwrite drops it; give one of the two")
    labels = None if labels_csv is None else read_labels(labels_csv, tree)
    loader = Loader(folder, labels, smallest=smallest, progress=progress)
    shape = _kept_shape(loader.shape, crop)
    with packing(
        out,
        loader.candidates,
        shape,
        _plan(loader, folder, labels_csv, tree, smallest, crop),
        is_usable=loader.is_usable,
        resume=resume,
        overwrite=overwrite,
        progress=progress,
    ) as journal:
        for outcome in journal.outcomes:
            if outcome.row is None:
                loader.quarantine(outcome.candidate, outcome.reason)
        with closing(loader.decode("packing", journal.done)) as rest:
            for candidate, stamp, image, reason in rest:
                journal.add(candidate, stamp, None if image is None else _centre(image, shape), reason)
        if not journal.count:
            raise InputError(f"{folder}: no usable image: {loader.quarantined[-1].reason}")
        journal.finish()
        _write_tables(journal, loader, labels)
        names = [_INDEX, IMAGES, *([] if labels is None else [_LABELS]), _QUARANTINE]
        meta = {
            "version": _VERSION,
            "count": journal.count,
            "image_shape": shape,
            "whole_size": loader.shape[:2],
            "crop": crop,
            "tree": None if labels is None else tree.name,
            "columns": () if labels is None else tree.columns,
            "quarantined": len(loader.quarantined),
            "images_from": str(folder.absolute()),
            "labels_from": None if labels_csv is None else str(Path(labels_csv).absolute()),
            "files": {name: _describe(journal.folder / name, progress) for name in names},
        }
        meta["checksum"] = _digest(meta)
        (journal.folder / META).write_text(json.dumps(meta, indent=2) + "\n", "utf-8")
    return PackSummary(out, journal.count, shape, tuple(loader.quarantined))


def is_pack(path: str | Path) -> bool:
    """Return True if ``path`` is a directory that ``pack`` wrote, sound or not."""
    return (Path(path) / META).is_file()


def open_pack(path: str | Path, *, verify: bool = False, progress: bool = True) -> Dataset:
    """Open a pack; its images stay on the disk and are read as they are used.

    All other files are hashed always. The images are where they are not older than ``pack.json``, which was written
    last, as after a copy or a change; if they are sound, it is touched, so that they are not hashed again.

    Args:
        path: the directory.
        verify: hash the images in any case, which reads all of them.
        progress: show a bar on stderr where hashing takes long.

    Raises:
        InputError: the pack is incomplete, altered, or of another version of gzkern.

    >>> dataset = open_pack("demo/pack")
    >>> dataset.images.shape[1:], dataset.images.dtype, dataset.labels.shape[1]
    ((424, 424, 3), dtype('uint8'), 37)
    """
    path = Path(path)
    meta = _read_meta(path)
    for name, expected in meta["files"].items():
        _require_whole(path, name, expected["bytes"])
    doubtful = (path / IMAGES).stat().st_mtime_ns >= (path / META).stat().st_mtime_ns
    for name, expected in meta["files"].items():
        if (name != IMAGES or doubtful or verify) and _sha256(path / name, progress) != expected["sha256"]:
            raise _altered(path, f"{name} was changed")
    columns = tuple(meta["columns"])
    ids = tuple(cells[0] for _, cells in read_rows(path / _INDEX))[1:]
    quarantined = tuple(Quarantined(*cells) for _, cells in read_rows(path / _QUARANTINE))[1:]
    labels = np.load(path / _LABELS) if columns else None
    try:
        images = np.load(path / IMAGES, mmap_mode="r")
    except ValueError as error:
        raise _altered(path, f"{IMAGES} cannot be read ({error})") from None
    expected_shape = (meta["count"], *meta["image_shape"])
    if images.shape != expected_shape or images.dtype != np.uint8:
        raise _altered(path, f"{IMAGES} is {images.shape} {images.dtype}, expected {expected_shape} uint8")
    if doubtful:
        with suppress(OSError):  # a pack that may not be written is hashed each time
            os.utime(path / META)
    return Dataset(ids, images, labels, columns, tuple(meta["whole_size"]), quarantined, path)


def _plan(
    loader: Loader,
    folder: Path,
    labels_csv: str | Path | None,
    tree: DecisionTree,
    smallest: int,
    crop: int | None,
) -> dict[str, Any]:
    """Return what decides the bytes of a pack; a job is resumed only if it is the same."""
    return {
        "folder of images": str(folder.absolute()),
        "list of files": _digest([(c.path.name, c.row) for c in loader.candidates] + loader.quarantined),
        "label file": None if labels_csv is None else _sha256(Path(labels_csv)),
        "decision tree": () if labels_csv is None else tree.columns,
        "smallest size": smallest,
        "size of most images": loader.shape,
        "--crop": crop,
        "version of gzkern or of its decoders": [_VERSION, *map(installed_version, _DECODERS)],
    }


def _write_tables(journal: Journal, loader: Loader, labels: Labels | None) -> None:
    """Write the ids, the labels and the quarantine of a pack."""
    used = [outcome.candidate for outcome in journal.outcomes if outcome.row is not None]
    _write_csv(journal.folder / _INDEX, ("id", "file"), ((c.id, c.path.name) for c in used))
    _write_csv(journal.folder / _QUARANTINE, Quarantined._fields, loader.quarantined)
    if labels is not None:
        np.save(journal.folder / _LABELS, labels.fractions[[candidate.row for candidate in used]])


def _kept_shape(shape: tuple[int, ...], crop: int | None) -> tuple[int, ...]:
    """(H, W, 3) of the centre that is kept of an image; it must have as many pixels on either side of it."""
    if crop is None:
        return shape
    height, width, channels = shape
    if not 2 <= crop <= min(height, width) or (height - crop) % 2 or (width - crop) % 2:
        parity = "a number" if (height - width) % 2 else "an odd number" if height % 2 else "an even number"
        raise InputError(
            f"--crop {crop}: expected {parity} from 2 to {min(height, width)}, which leaves as many pixels on either "
            f"side of images of {width}×{height}"
        )
    return crop, crop, channels


def _centre(image: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    top, left = ((whole - kept) // 2 for whole, kept in zip(image.shape[:2], shape[:2], strict=True))
    return image[top : top + shape[0], left : left + shape[1]]


def _write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    # A file name need not be valid Unicode.
    with path.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file:
        write_rows(file, header, rows)


def _describe(path: Path, progress: bool) -> dict[str, Any]:
    return {"bytes": path.stat().st_size, "sha256": _sha256(path, progress)}


def _sha256(path: Path, progress: bool = False) -> str:
    """Hash a file; a bar says so where it takes more than a moment."""
    digest = hashlib.sha256()
    size = path.stat().st_size
    with (
        path.open("rb") as file,
        tqdm(desc=f"hashing {path.name}", total=size, unit="B", unit_scale=True, delay=1, disable=not progress) as bar,
    ):
        while block := file.read(_BLOCK):
            digest.update(block)
            bar.update(len(block))
    return digest.hexdigest()


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _read_meta(path: Path) -> dict[str, Any]:
    if not is_pack(path):
        raise InputError(f"{path}: is not a pack (no {META}); make one with: gzkern pack")
    try:
        meta = json.loads((path / META).read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise _altered(path, f"{META} cannot be read ({error})") from None
    if not isinstance(meta, dict) or "version" not in meta:
        raise _altered(path, f"{META} does not describe a pack")
    if meta["version"] != _VERSION:
        raise InputError(
            f"{path}: pack version {meta['version']}, this gzkern reads version {_VERSION}; run gzkern pack again"
        )
    if meta.pop("checksum", None) != _digest(meta):
        raise _altered(path, f"{META} was edited")
    return meta


def _require_whole(path: Path, name: str, expected: int) -> None:
    file = path / name
    if not file.is_file():
        raise _altered(path, f"{name} is missing")
    if (size := file.stat().st_size) != expected:
        raise _altered(path, f"{name} has {size:,} bytes, expected {expected:,}")


def _altered(path: Path, what: str) -> InputError:
    return InputError(f"{path}: the pack is incomplete or altered: {what}; run gzkern pack again")
