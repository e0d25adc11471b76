"""Compiled code on disk: checked when it is read, written whole, removed when long unused."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path

from ..errors import GzkernError, InputError
from .files import write_atomically

_KEEP_DAYS = 30


def folder(kind: str) -> Path:
    """The folder ``kind`` in ``GZKERN_CACHE``, else of the user's cache, else of the system's temporary folder.

    Raises:
        InputError: none of them can be written to; says what to set.
    """
    chosen = os.environ.get("GZKERN_CACHE")
    user = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "gzkern")
    bases = [Path(chosen)] if chosen else [user, Path(tempfile.gettempdir(), f"gzkern-{os.getuid()}")]
    for base in bases:
        if _is_usable(base / kind):
            return base / kind
    places = " nor ".join(map(str, bases))
    raise InputError(f"compiled code cannot be kept in {places}; set GZKERN_CACHE to a folder that can be written to")


def keep(path: Path, make: Callable[[], bytes]) -> bytes:
    """The contents of a file in such a folder, made and written where it is absent or damaged.

    Processes may do so at once: each writes the file whole. Where it cannot be written, it is made each time.
    """
    content = _read(path)
    if content is None:
        content = make()
        with contextlib.suppress(GzkernError):
            write_atomically(path, hashlib.sha256(content).digest() + content)
    return content


def _read(path: Path) -> bytes | None:
    try:
        stored = path.read_bytes()
        path.touch()
    except OSError:
        return None
    digest, content = stored[:32], stored[32:]
    return content if hashlib.sha256(content).digest() == digest else None


@cache
def _is_usable(folder: Path) -> bool:
    """Make the folder, unless it is another user's, and remove what has not been used for long."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
        if folder.stat().st_uid != os.getuid():
            return False
    except OSError:
        return False
    oldest = time.time() - _KEEP_DAYS * 24 * 3600
    for path in folder.iterdir():
        with contextlib.suppress(OSError):
            if path.stat().st_mtime < oldest:
                path.unlink()
    return True
