"""A pack in the making: its images so far and a journal of the files they came from, by which the job can be resumed.

They lie in a hidden folder beside the pack, with the plan of the job, which a job that is resumed must share.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from ..core.files import locked, publish, require_free, write_atomically
from ..errors import GzkernError, InputError
from .loading import Candidate
from .stamp import Stamp, stamp_of

IMAGES = "images.npy"
META = "pack.json"
"""By which a directory is known as a pack."""

_JOURNAL = "journal.jsonl"
_COMMIT_BYTES = 2**26  # of images, after which they are brought to the disk and journalled


@contextmanager
def packing(
    out: Path,
    candidates: Sequence[Candidate],
    shape: tuple[int, ...],
    plan: Mapping[str, Any],
    *,
    is_usable: Callable[[Candidate], bool],
    resume: bool,
    overwrite: bool,
    progress: bool,
) -> Iterator[Journal]:
    """Yield a journal; its folder becomes ``out`` when the block ends, and is kept where the block fails.

    Args:
        out: the directory to write.
        candidates: the files to deal with, in this order.
        shape: (H, W, 3) of an image as it is kept.
        plan: all that makes the pack what it is; its keys say in an error what differs.
        is_usable: whether a file that had no image has one now, as after an error of the disk.
        resume: go on with the job that was interrupted.
        overwrite: replace ``out``, and drop what an interrupted job has done.
        progress: show a bar on stderr while what is there is read again.

    Raises:
        InputError: ``out`` exists, is a mount point, or is no pack that may be replaced; another process packs there;
            the disk has no room; an interrupted job is there and neither ``resume`` nor ``overwrite`` given; none is
            there to resume, or one with another plan.
        GzkernError: the block was interrupted (by Ctrl-C too), or ran out of disk or memory.
    """
    place = out.resolve()
    work = place.with_name(f".{place.name}.packing")
    plan_file, folder = work / "plan.json", work / "pack"
    if resume and not work.is_dir():
        raise _nothing_to_resume(out)
    with locked(work, f"{out}: another process is packing there; wait for it, or choose another --out"):
        try:
            begun = plan_file.is_file() and (folder / IMAGES).is_file()
            if resume:
                if not begun:
                    raise _nothing_to_resume(out)
                overwrite = _require_same(out, json.loads(plan_file.read_bytes()), plan)
            elif begun and not overwrite:
                done = (work / _JOURNAL).read_bytes().count(b"\n")
                raise InputError(
                    f"{out}: {done:,} of {len(candidates):,} files were packed for it when the job was interrupted; "
                    "pass --resume to go on, --overwrite to begin anew"
                )
            if overwrite and place.is_dir() and any(place.iterdir()) and not (place / META).is_file():
                raise InputError(f"{out}: is not a pack, so it is not overwritten; choose another name")
            if os.path.ismount(place):
                raise InputError(f"{out}: is where a disk is mounted, and cannot be replaced; name a folder in it")
            require_free(place, overwrite=overwrite)
            if not resume:
                _clear(work)
            there = (folder / IMAGES).stat().st_size if resume else 0
            _require_space(out, len(candidates) * math.prod(shape) - there)
            if not resume:
                folder.mkdir()
                write_atomically(plan_file, json.dumps({"overwrite": overwrite, **plan}).encode())
            with (
                Journal(folder, candidates, shape, is_usable, progress) as journal,
                _kept(out, journal, len(candidates)),
            ):
                yield journal
                publish(folder, place, overwrite=overwrite)
                plan_file.unlink()
        finally:
            if not (plan_file.is_file() and folder.is_dir()):  # nothing to go on with
                shutil.rmtree(work, ignore_errors=True)


class Outcome(NamedTuple):
    """What became of a file: the row of its image and the CRC-32 of its bytes, or the reason why it has none."""

    candidate: Candidate
    stamp: Stamp | None
    row: int | None
    crc: int
    reason: str


class Journal:
    """Appends images to ``images.npy``, and a line to the journal for each file that was dealt with.

    A line is written when the image it tells of is on the disk. Where there is a journal already, it is taken over up
    to the first file that was changed since, or image that is no longer what was written, and both are cut back to it.

    Args:
        folder: where ``images.npy`` lies, and beside which the journal does.
        candidates: the files to deal with, in this order.
        shape: (H, W, 3) of an image as it is kept.
        is_usable: see :func:`packing`.
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
        self._lines, self._images = _open(folder.with_name(_JOURNAL)), _open(folder / IMAGES)
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


def _nothing_to_resume(out: Path) -> InputError:
    return InputError(f"{out}: nothing to resume; leave --resume out to start")


def _require_same(out: Path, begun: dict[str, Any], plan: Mapping[str, Any]) -> bool:
    """Whether the job that was begun so replaces ``out``; refuses to resume it by another plan."""
    plan = json.loads(json.dumps(plan))
    if differing := [name for name in plan if begun.get(name) != plan[name]]:
        raise InputError(
            f"{out}: the interrupted job was begun with another {' and another '.join(differing)}; "
            "give the same again, or pass --overwrite in place of --resume to begin anew"
        )
    return bool(begun["overwrite"])


def _clear(work: Path) -> None:
    """Drop what an earlier job left; its plan first, so that no half of it is ever taken for work to resume."""
    (work / "plan.json").unlink(missing_ok=True)
    (work / _JOURNAL).unlink(missing_ok=True)
    shutil.rmtree(work / "pack", ignore_errors=True)


def _require_space(out: Path, needed: int) -> None:
    existing = next(folder for folder in out.absolute().parents if folder.exists())
    free = shutil.disk_usage(existing).free
    if free < needed:
        raise InputError(f"{out}: the pack needs {needed / 2**30:.2f} GiB, only {free / 2**30:.2f} GiB are free there")


@contextmanager
def _kept(out: Path, journal: Journal, total: int) -> Iterator[None]:
    """Say in one sentence what stopped the block, and how to go on."""
    try:
        yield
    except (KeyboardInterrupt, MemoryError, OSError) as error:
        if not journal.folder.is_dir():
            raise GzkernError(f"{out}: interrupted when it had been written whole; it can be used") from error
        with suppress(OSError):
            journal.commit()
        if isinstance(error, OSError):
            what = (error.strerror or str(error)).lower()
        else:
            what = "out of memory" if isinstance(error, MemoryError) else "interrupted"
        raise GzkernError(
            f"{out}: {what} after {journal.done:,} of {total:,} files, which are kept; "
            "the same command with --resume, and without --overwrite, goes on"
        ) from error


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
    """What a line tells of the candidate; None where it was cut short or tells of another."""
    try:
        id_, name, stamp, outcome = json.loads(line)
    except ValueError:
        return None
    if not line.endswith(b"\n") or (id_, name) != (candidate.id, candidate.path.name):
        return None
    kept = (None, 0, outcome) if isinstance(outcome, str) else (*outcome, "")
    return Outcome(candidate, stamp and Stamp(*stamp), *kept)
