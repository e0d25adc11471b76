"""Writing files and directories whole or not at all.

Everything is written under a hidden temporary name beside its destination, brought to the disk, and renamed:
after a crash the destination holds the old contents or the new, never a part (a directory that is overwritten steps
aside under a hidden name for a moment).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from ..errors import GzkernError, InputError

LOCK = "lock"
"""The file by which a directory is held; it stays when nobody holds it."""


def write_atomically(path: str | Path, content: bytes | Callable[[BinaryIO], object]) -> None:
    """Write a file, replacing the one of that name.

    Args:
        path: the file; its folder must exist.
        content: the bytes, or a function that writes them to the open file it is given.

    Raises:
        InputError: the folder is absent or not writable, or the path is a directory.
        GzkernError: writing failed midway (a full disk); the old file stands.
    """
    path = Path(path)
    if path.is_dir():
        raise InputError(f"{path}: is a directory, expected the name of a file to write")
    partial = _partial_name(path)
    try:
        file = partial.open("xb")
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror})") from None
    try:
        with file:
            if callable(content):
                content(file)
            else:
                file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
        _sync(path.parent)
    except BaseException as error:
        partial.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise GzkernError(f"{path}: not written ({error})") from error
        raise


@contextlib.contextmanager
def new_directory(path: str | Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Yield an empty directory that becomes ``path`` when the block ends without an exception.

    Folders above ``path`` are created. Where the block raises (KeyboardInterrupt too), the directory is
    removed and ``path`` is as it was.

    Args:
        path: the directory; it must not exist, unless it is an empty directory or ``overwrite`` is given.
        overwrite: replace the directory at ``path``; the caller makes sure that it may be deleted.

    Raises:
        InputError: ``path`` exists, or cannot be created.
        GzkernError: writing failed midway (a full disk).
    """
    path = Path(path).resolve()
    require_free(path, overwrite=overwrite)
    partial = _partial_name(path)
    try:
        partial.mkdir(parents=True)
    except OSError as error:
        raise InputError(f"{path}: cannot be created ({error.strerror})") from None
    try:
        yield partial
        publish(partial, path, overwrite=overwrite)
    except BaseException as error:
        shutil.rmtree(partial, ignore_errors=True)
        if isinstance(error, OSError):
            raise GzkernError(f"{path}: not written ({error})") from error
        raise


def require_free(path: Path, *, overwrite: bool) -> None:
    """Refuse a path that a new directory cannot take.

    Raises:
        InputError: it is a file, or a directory that is not empty (unless ``overwrite`` is given).
    """
    if path.exists() and not path.is_dir():
        raise InputError(f"{path}: is a file, expected the name of a directory to write")
    if not overwrite and path.exists() and not _is_empty(path):
        raise InputError(f"{path}: already exists; choose another name or pass --overwrite")


def publish(directory: Path, path: Path, *, overwrite: bool) -> None:
    """Bring a directory to the disk and give it its name, ``path``, beside which it must lie on the same disk."""
    for entry in directory.rglob("*"):
        _sync(entry)
    _sync(directory)
    _move_into_place(directory, path, overwrite)
    _sync(path.parent)


@contextlib.contextmanager
def locked(directory: Path, busy: str) -> Iterator[None]:
    """Hold a directory against other processes by a file ``LOCK`` in it; the lock dies with its process.

    The directory is made if need be, with those above it.

    Args:
        directory: what is held.
        busy: the message where another process holds it.

    Raises:
        InputError: another process holds the directory, or it cannot be created.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(directory / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise InputError(f"{directory}: cannot be created ({error.strerror})") from None
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(busy) from None
        if os.fstat(descriptor).st_nlink == 0:  # the process that held it has removed the directory just now
            raise InputError(busy)
        yield
    finally:
        os.close(descriptor)


def _move_into_place(partial: Path, path: Path, overwrite: bool) -> None:
    if not overwrite or not path.exists() or _is_empty(path):
        partial.rename(path)  # fails, as it must, where something has appeared there meanwhile
        return
    # A directory that is not empty cannot be replaced in one step: the old one steps aside first.
    aside = _partial_name(path)
    path.rename(aside)
    try:
        partial.rename(path)
    except OSError:
        aside.rename(path)
        raise
    shutil.rmtree(aside, ignore_errors=True)


def _is_empty(directory: Path) -> bool:
    return not any(directory.iterdir())


def _partial_name(path: Path) -> Path:
    path = path.absolute()
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
