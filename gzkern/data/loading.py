"""From image files and labels to a data set: what both a folder and a pack are made by."""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from ..errors import ImageError, InputError
from .catalogue import list_images
from .images import decode
from .labels import Labels

_WORKERS = min(8, os.cpu_count() or 1)
_IN_FLIGHT = 4 * _WORKERS  # decoded images that may wait for their turn
_SHAPES_LOOKED_AT = 25  # images whose commonest shape is that of the data set


class Quarantined(NamedTuple):
    """A file, or a label without a file (``path`` empty), that was left out, and why."""

    path: str
    id: str
    reason: str


def describe_skipped(skipped: Sequence[tuple[object, str, str]], most: int = 100) -> Iterator[str]:
    """One line for each (path, id, reason), the first ``most`` of very many, then their number; none for none."""
    for path, id_, reason in skipped[:most]:
        yield f"skipped {path or id_}: {reason}"
    if len(skipped) > most:
        yield f"skipped {len(skipped) - most:,} more"
    if skipped:
        yield f"{len(skipped):,} inputs skipped in all"


@dataclass(frozen=True, eq=False)
class Dataset:
    """Images and labels in the order of the label file.

    Attributes:
        ids: one text an image.
        images: (n, H, W, 3) uint8; an array, or a read-only map of a file.
        labels: (n, answers) float32 in [0, 1]; None where there are none.
        columns: the name of each column of ``labels``.
        quarantined: what was left out when the files were read.
    """

    ids: tuple[str, ...] = field(repr=False)
    images: np.ndarray = field(repr=False)
    labels: np.ndarray | None = field(repr=False)
    columns: tuple[str, ...]
    quarantined: tuple[Quarantined, ...] = field(default=(), repr=False)

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def fingerprint(self) -> str:
        """Hexadecimal SHA-256 over ids, labels and shape: the same for a folder and for its pack."""
        header = {"ids": self.ids, "columns": self.columns, "shape": self.images.shape}
        digest = hashlib.sha256(json.dumps(header).encode())
        if self.labels is not None:
            digest.update(np.ascontiguousarray(self.labels, "<f4").tobytes())
        return digest.hexdigest()


class Candidate(NamedTuple):
    """An image file that is to become row ``row`` of the labels, if it can be used."""

    path: Path
    id: str
    row: int


class Loader:
    """Decodes the images of a folder in the order of the labels, or of their ids where there are none.

    A file that cannot be used, or that no label names, goes to ``quarantined`` and the work goes on.

    Attributes:
        candidates: the files to decode; some may prove unusable.
        quarantined: what was left out so far; complete when the iteration has ended.
        shape: (H, W, 3) of most images, which all must have.
    """

    def __init__(self, folder: Path, labels: Labels | None, *, smallest: int, progress: bool):
        """Match the files of ``folder`` with ``labels``; ``smallest`` in pixels as in ``decode``.

        Raises:
            InputError: the folder cannot be read, or no image of it can be used.
        """
        self.candidates, self.quarantined = _match(list_images(folder), labels)
        self._smallest = smallest
        self._progress = progress
        self.shape = self._common_shape(folder)

    @property
    def most_bytes(self) -> int:
        """Bytes of the images if every candidate is usable."""
        return len(self.candidates) * int(np.prod(self.shape))

    def __iter__(self) -> Iterator[tuple[Candidate, np.ndarray]]:
        """Yield each usable image, (H, W, 3) uint8, with where it came from."""
        bar = tqdm(self._decode(), total=len(self.candidates), unit="image", disable=not self._progress)
        for candidate, future in bar:
            try:
                image = future.result()
                if image.shape != self.shape:
                    raise ImageError(f"{_size(image.shape)} pixels, most images have {_size(self.shape)}")
            except ImageError as error:
                self.quarantined.append(Quarantined(str(candidate.path), candidate.id, str(error)))
            else:
                yield candidate, image

    def _decode(self) -> Iterator[tuple[Candidate, Future[np.ndarray]]]:
        """Decode ahead in threads (Pillow releases the GIL), in order and in bounded memory."""
        window: deque[tuple[Candidate, Future[np.ndarray]]] = deque()
        with ThreadPoolExecutor(_WORKERS) as pool:
            for candidate in self.candidates:
                window.append((candidate, pool.submit(decode, candidate.path, smallest=self._smallest)))
                if len(window) == _IN_FLIGHT:
                    yield window.popleft()
            yield from window

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
            raise InputError(f"{folder}: no image files, expected .jpg, .jpeg or .png")
        reasons = list(dict.fromkeys(reasons))
        more = f" (and {len(reasons) - 1:,} more)" if len(reasons) > 1 else ""
        raise InputError(f"{folder}: no usable image: {reasons[0]}{more}")


def _match(files: Iterable[Path], labels: Labels | None) -> tuple[list[Candidate], list[Quarantined]]:
    """Pair files with label rows by id, in the order of the rows."""
    rows = None if labels is None else {id_: row for row, id_ in enumerate(labels.ids)}
    found: dict[str, Path] = {}
    quarantined = []
    for path in files:
        if rows is not None and path.stem not in rows:
            reason = "its name is not an id of the label file"
        elif path.stem in found:
            reason = f"{found[path.stem].name} has the same id"
        else:
            found[path.stem] = path
            continue
        quarantined.append(Quarantined(str(path), path.stem, reason))
    if rows is None:
        rows = {id_: row for row, id_ in enumerate(found)}
    quarantined += [Quarantined("", id_, "no image file") for id_ in rows if id_ not in found]
    return [Candidate(found[id_], id_, row) for id_, row in rows.items() if id_ in found], quarantined


def _size(shape: tuple[int, ...]) -> str:
    return f"{shape[1]}×{shape[0]}"
