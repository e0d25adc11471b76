"""A pack in the making: a hidden folder beside it, by which an interrupted job can be resumed.

The folder holds the images so far, their journal, and the plan of the job, which a job that is resumed must share.
"""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ..core.files import locked, publish, require_free, write_atomically
from ..errors import GzkernError, InputError
from .journal import IMAGES, JOURNAL, Journal
from .loading import Candidate

META = "pack.json"
"""By which a directory is known as a pack."""


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
        candidates: the files to pack, in this order.
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
                done = (work / JOURNAL).read_bytes().count(b"\n")
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
                _interrupts_explained(out, journal, len(candidates)),
            ):
                yield journal
                publish(folder, place, overwrite=overwrite)
                plan_file.unlink()
        finally:
            if not (plan_file.is_file() and folder.is_dir()):  # nothing to go on with
                shutil.rmtree(work, ignore_errors=True)


def _nothing_to_resume(out: Path) -> InputError:
    return InputError(f"{out}: nothing to resume; leave --resume out to start")


def _require_same(out: Path, begun: dict[str, Any], plan: Mapping[str, Any]) -> bool:
    """Return the interrupted job's ``overwrite`` flag; raise if its plan differs."""
    plan = json.loads(json.dumps(plan))
    if differing := [name for name in plan if begun.get(name) != plan[name]]:
        raise InputError(
            f"{out}: the interrupted job was begun with another {' and another '.join(differing)}; "
            "give the same again, or pass --overwrite in place of --resume to begin anew"
        )
    return bool(begun["overwrite"])


def _clear(work: Path) -> None:
    """Remove the work of an earlier job; its plan first, so that the rest is never taken for work to resume."""
    (work / "plan.json").unlink(missing_ok=True)
    (work / JOURNAL).unlink(missing_ok=True)
    shutil.rmtree(work / "pack", ignore_errors=True)


def _require_space(out: Path, needed: int) -> None:
    existing = next(folder for folder in out.absolute().parents if folder.exists())
    free = shutil.disk_usage(existing).free
    if free < needed:
        raise InputError(f"{out}: the pack needs {needed / 2**30:.2f} GiB, only {free / 2**30:.2f} GiB are free there")


@contextmanager
def _interrupts_explained(out: Path, journal: Journal, total: int) -> Iterator[None]:
    """Turn what stops the block into one sentence that says how to go on; commit what is done."""
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
