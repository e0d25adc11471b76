"""The journal of a pack in the making: its images so far and the files that they came from."""

from __future__ import annotations

import json
import math
import os
import zlib
from collections.abc import Callable, Sequence
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from .loading import Candidate
from .stamp import Stamp, stamp_of

IMAGES = "images.npy"

JOURNAL = "journal.jsonl"
_COMMIT_BYTES = 2**26  # of images; then they are synchronised to the disk and journalled


class Outcome(NamedTuple):
    """The row of a file's image and the CRC-32 of its bytes, or the reason why it has none."""

    candidate: Candidate
    stamp: Stamp | None
    row: int | None
    crc: int
    reason: str


class Journal:
    """Appends images to ``images.npy``, and a line a file to the journal.

    A line is written when the image it tells of is on the disk. Where there is a journal already, it is taken over up
    to the first file that was changed since, or image that is no longer what was written, and both are cut back to it.

    Args:
        folder: where ``images.npy`` lies, and beside which the journal does.
        candidates: the files to pack, in this order.
        shape: (H, W, 3) of an image as it is kept.
        is_usable: says if a file that had no image has one now, as after an error of the disk.
        progress: show a bar while images that are there are read again.

    Attributes:
        folder: as given.
        outcomes: what became of the first candidates.
        count: how many of them have an image.
        done: how many of them the journal has, so that they outlive this process.
    """

    def __init__(
        self,
        folder: Path,
        candidates: Sequence[Candidate],
        shape: tuple[int, ...],
        is_usable: Callable[[Candidate], bool],
        progress: bool,
    ):
        self.folder = folder
        self.outcomes: list[Outcome] = []
        self.count = self.done = 0
        self._candidates, self._shape = candidates, shape
        self._lines, self._images = _open(folder.with_name(JOURNAL)), _open(folder / IMAGES)
        _write_header(self._images, 0, shape)
        self._header = self._images.tell()
        self._journalled = 0  # bytes
        self._restore(is_usable, progress)

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._images.close()
        self._lines.close()

    def add(self, candidate: Candidate, stamp: Stamp | None, image: np.ndarray | None, reason: str) -> None:
        """Append the next candidate's image, of the shape given, or the reason why it has none."""
        if image is None:
            self.outcomes.append(Outcome(candidate, stamp, None, 0, reason))
        else:
            content = np.ascontiguousarray(image).data.cast("B")
            _write(self._images, content)
            self.outcomes.append(Outcome(candidate, stamp, self.count, zlib.crc32(content), ""))
            self.count += 1
        if (len(self.outcomes) - self.done) * math.prod(self._shape) >= _COMMIT_BYTES:
            self.commit()

    def commit(self) -> None:
        """Bring the images to the disk, then say so in the journal."""
        os.fsync(self._images.fileno())
        lines = "".join(_line(outcome) for outcome in self.outcomes[self.done :]).encode()
        self._lines.seek(self._journalled)  # over what an earlier attempt may have left
        _write(self._lines, memoryview(lines))
        self._journalled += len(lines)
        self.done = len(self.outcomes)

    def finish(self) -> None:
        """Commit, and complete the .npy file."""
        self.commit()
        self._images.seek(0)  # numpy pads the header, so that its length does not depend on the count
        _write_header(self._images, self.count, self._shape)

    def _restore(self, is_usable: Callable[[Candidate], bool], progress: bool) -> None:
        size = math.prod(self._shape)
        lines = self._lines.read().splitlines(keepends=True)
        bar = tqdm(lines, desc="checking", unit="image", delay=1, disable=not progress)
        for line, candidate in zip(bar, self._candidates, strict=False):
            outcome = _parse(line, candidate)
            if outcome is None or outcome.row not in (None, self.count) or stamp_of(candidate.path) != outcome.stamp:
                break
            if outcome.row is None and is_usable(candidate):
                break
            if outcome.row is not None:
                image = self._images.read(size)
                if len(image) < size or zlib.crc32(image) != outcome.crc:
                    break
                self.count += 1
            self.outcomes.append(outcome)
            self._journalled += len(line)
        self.done = len(self.outcomes)
        self._lines.truncate(self._journalled)
        self._images.truncate(self._header + self.count * size)
        self._images.seek(0, os.SEEK_END)


def _open(path: Path) -> FileIO:
    """Open to read and write; unbuffered, so that what could not be written is not tried again when it is closed."""
    path.touch()
    return path.open("r+b", buffering=0)


def _write(file: FileIO, content: memoryview) -> None:
    while content:
        content = content[file.write(content) :]


def _write_header(file: FileIO, count: int, shape: tuple[int, ...]) -> None:
    np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": (count, *shape)})


def _line(outcome: Outcome) -> str:
    candidate, stamp, row, crc, reason = outcome
    return json.dumps([candidate.id, candidate.path.name, stamp, reason if row is None else [row, crc]]) + "\n"


def _parse(line: bytes, candidate: Candidate) -> Outcome | None:
    """The outcome of the candidate in a line; None where the line was cut short or is another's."""
    try:
        id_, name, stamp, outcome = json.loads(line)
    except ValueError:
        return None
    if not line.endswith(b"\n") or (id_, name) != (candidate.id, candidate.path.name):
        return None
    row, crc, reason = (None, 0, outcome) if isinstance(outcome, str) else (*outcome, "")
    return Outcome(candidate, stamp and Stamp(*stamp), row, crc, reason)
