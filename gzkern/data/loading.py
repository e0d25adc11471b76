"""The decoding of a folder's images, in the order of their labels: for a data set in memory and for a pack."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Generator, Iterable
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from ..core.ordered_workers import prefetch
from ..core.processes import cores
from ..errors import ImageError, InputError
from .catalogue import list_images
from .images import SUFFIXES, decode, image_id
from .labels import Labels
from .quarantine import Quarantined
from .stamp import Stamp, stamp_of

_IN_FLIGHT = 256  # images that are decoded or wait for their turn: decoding goes on while a disk is waited for
_IN_FLIGHT_BYTES = 2**28  # that they may take
_SHAPES_LOOKED_AT = 25  # images whose commonest shape is that of the data set


class Candidate(NamedTuple):
    """An image file that is to become row ``row`` of the labels, if it can be used."""

    path: Path
    id: str
    row: int


class Decoded(NamedTuple):
    """The outcome of a candidate: its image, (H, W, 3) uint8, or the reason why there is none."""

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
        """Decode a candidate anew; True if it has an image."""
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
