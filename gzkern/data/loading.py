"""From image files and labels to a data set: what both a folder and a pack are made by."""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from ..core.ordered_workers import prefetch
from ..core.processes import cores
from ..errors import ImageError, InputError
from .catalogue import list_images
from .images import SUFFIXES, decode, image_id
from .labels import Labels

_IN_FLIGHT = 256  # images that are decoded or wait for their turn: decoding goes on while a disk is waited for
_IN_FLIGHT_BYTES = 2**28  # that they may take
_SHAPES_LOOKED_AT = 25  # images whose commonest shape is that of the data set


class Quarantined(NamedTuple):
    """A file, or a label without a file (``path`` empty), that was left out, and why."""

    path: str
    id: str
    reason: str


def describe_skipped(skipped: Sequence[tuple[object, str, str]], most: int = 100) -> Iterator[str]:
    """A line for each (path, id, reason), the first ``most`` of very many, then their number; none for none.

    Labels without a file have one line together.
    """
    files = [(path, reason) for path, _, reason in skipped if path]
    absent = [id_ for path, id_, _ in skipped if not path]
    for path, reason in files[:most]:
        yield f"skipped {path}: {reason}"
    if len(files) > most:
        yield f"skipped {len(files) - most:,} more files"
    if absent:
        yield f"skipped {len(absent):,} labels without an image file, the first of id {absent[0]}"
    if skipped:
        yield f"{len(skipped):,} inputs skipped in all"


@dataclass(frozen=True, eq=False)
class Dataset:
    """Images and labels in the order of the label file.

    Attributes:
        ids: one text an image.
        images: (n, H, W, 3) uint8; an array, a read-only map of a file, or an ``EncodedImages``.
        labels: (n, answers) float32 in [0, 1]; None where there are none.
        columns: the name of each column of ``labels``.
        whole_size: (height, width) of the images before a pack kept their centre alone; else that of ``images``.
        quarantined: what was left out when the files were read.
        path: the folder of the pack; None for a folder of images.
    """

    ids: tuple[str, ...] = field(repr=False)
    images: Any = field(repr=False)
    labels: np.ndarray | None = field(repr=False)
    columns: tuple[str, ...]
    whole_size: tuple[int, int]
    quarantined: tuple[Quarantined, ...] = field(default=(), repr=False)
    path: Path | None = None

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def fingerprint(self) -> str:
        """Hexadecimal SHA-256 over ids, labels and whole size: the same for a folder and for all packs of it."""
        shape = (len(self), *self.whole_size, 3)
        header = {"ids": self.ids, "columns": self.columns, "shape": shape}
        digest = hashlib.sha256(json.dumps(header).encode())
        if self.labels is not None:
            digest.update(np.ascontiguousarray(self.labels, "<f4").tobytes())
        return digest.hexdigest()


class Candidate(NamedTuple):
    """An image file that is to become row ``row`` of the labels, if it can be used."""

    path: Path
    id: str
    row: int


class Stamp(NamedTuple):
    """By what one sees that a file was changed: bytes, and the time of the last change in ns since 1970."""

    size: int
    mtime_ns: int


def stamp_of(path: Path) -> Stamp | None:
    """The stamp of a file; None where there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return Stamp(status.st_size, status.st_mtime_ns)


class Decoded(NamedTuple):
    """What became of a candidate: its image, (H, W, 3) uint8, or the reason why there is none."""

    candidate: Candidate
    stamp: Stamp | None
    image: np.ndarray | None
    reason: str = ""


class Loader:
    """Decodes the images of a folder in the order of the labels, or of their ids where there are none.

    A file that cannot be used, or that no label names, goes to ``quarantined`` and the work goes on.

    Attributes:
        candidates: the files to decode; some may prove unusable.
        quarantined: what was left out so far; complete when the last candidate was decoded.
        shape: (H, W, 3) of most images, which all must have.
    """

    def __init__(self, folder: Path, labels: Labels | None, *, smallest: int, progress: bool):
        """Match the files of ``folder`` with ``labels``; ``smallest`` in pixels as in ``decode``.

        Raises:
            InputError: the folder cannot be read, no image of it has a label, or none can be used.
        """
        files = list_images(folder)
        self.candidates, self.quarantined = _match(files, labels)
        if files and labels is not None and not self.candidates:
            raise InputError(
                f"{folder}: none of its {len(files):,} images is named by an id of the label file (an image: "
                f"{files[0].name}, an id: {labels.ids[0]}); give the label file of these images"
            )
        self._smallest = smallest
        self._progress = progress
        self.shape = self._common_shape(folder)

    @property
    def most_bytes(self) -> int:
        """Bytes of the images if every candidate is usable."""
        return len(self.candidates) * math.prod(self.shape)

    def decode(self, doing: str, first: int = 0) -> Generator[Decoded, None, None]:
        """Say what became of each candidate from number ``first`` on, in order; ``doing`` heads the bar."""
        most = max(1, min(_IN_FLIGHT, _IN_FLIGHT_BYTES // math.prod(self.shape)))
        decoded_images = prefetch(self._decode, self.candidates[first:], workers=cores(), most=most)
        count = len(self.candidates)
        bar = tqdm(decoded_images, desc=doing, initial=first, total=count, unit="image", disable=not self._progress)
        with closing(decoded_images):
            for decoded in bar:
                if decoded.image is None:
                    self.quarantine(decoded.candidate, decoded.reason)
                yield decoded

    def is_usable(self, candidate: Candidate) -> bool:
        """Whether a candidate has an image."""
        return self._decode(candidate).image is not None

    def quarantine(self, candidate: Candidate, reason: str) -> None:
        """Leave a candidate out."""
        self.quarantined.append(Quarantined(str(candidate.path), candidate.id, reason))

    def _decode(self, candidate: Candidate) -> Decoded:
        before = stamp_of(candidate.path)
        image, reason = None, ""
        try:
            image = decode(candidate.path, smallest=self._smallest)
            if image.shape != self.shape:
                reason = f"{_size(image.shape)} pixels, most images have {_size(self.shape)}"
        except ImageError as error:
            reason = str(error)
        if stamp_of(candidate.path) != before:
            reason = "changed while it was read"
        return Decoded(candidate, before, None if reason else image, reason)

    def _common_shape(self, folder: Path) -> tuple[int, ...]:
        """The commonest shape among some usable images from all over the folder."""
        reasons = [f"{Path(q.path).name or q.id}: {q.reason}" for q in self.quarantined]
        shapes: Counter[tuple[int, ...]] = Counter()
        every = max(1, len(self.candidates) // _SHAPES_LOOKED_AT)
        for candidates in (self.candidates[::every], self.candidates):  # all only where the sample has none
            for candidate in candidates if not shapes else ():
                try:
                    shapes[decode(candidate.path, smallest=self._smallest).shape] += 1
                except ImageError as error:
                    reasons.append(f"{candidate.path.name}: {error}")
        if shapes:
            return shapes.most_common(1)[0][0]
        if not reasons:
            raise InputError(f"{folder}: no image files, expected {', '.join(SUFFIXES)}")
        reasons = list(dict.fromkeys(reasons))
        more = f" (and {len(reasons) - 1:,} more)" if len(reasons) > 1 else ""
        raise InputError(f"{folder}: no usable image: {reasons[0]}{more}")


def _match(files: Iterable[Path], labels: Labels | None) -> tuple[list[Candidate], list[Quarantined]]:
    """Pair files with label rows by id, in the order of the rows."""
    rows = None if labels is None else {id_: row for row, id_ in enumerate(labels.ids)}
    found: dict[str, Path] = {}
    quarantined = []
    for path in files:
        id_ = image_id(path)
        if rows is not None and id_ not in rows:
            reason = "its name is not an id of the label file"
        elif id_ in found:
            reason = f"{found[id_].name} has the same id"
        else:
            found[id_] = path
            continue
        quarantined.append(Quarantined(str(path), id_, reason))
    if rows is None:
        rows = {id_: row for row, id_ in enumerate(found)}
    quarantined += [Quarantined("", id_, "no image file") for id_ in rows if id_ not in found]
    return [Candidate(found[id_], id_, row) for id_, row in rows.items() if id_ in found], quarantined


def _size(shape: tuple[int, ...]) -> str:
    return f"{shape[1]}×{shape[0]}"
