"""The emulated device as a backend of launches."""

from __future__ import annotations

import ctypes
import math
import mmap
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from ..errors import GzkernError
from . import compiler
from .library import CompiledKernel, Launch, Library

ORDERS = ("forward", "reverse", "random")

MOST_SHARED = 227 * 1024
"""Bytes of shared memory that a block may have."""


_MAP_NORESERVE = 0x4000  # of Linux; Python names it from 3.13 on


@dataclass(frozen=True)
class Settings:
    """How kernels are compiled and in which order threads run; see ``Emulator.settings``."""

    order: str = "forward"
    seed: int = 0
    late_copies: bool = False
    mode: str = "fast"

    def __post_init__(self) -> None:
        for value, values in ((self.order, ORDERS), (self.mode, compiler.MODES)):
            if value not in values:
                raise GzkernError(f"emulated device: setting {value!r}, expected {' or '.join(values)}")


class Emulator:
    """A device whose arrays are NumPy's; launches are run to their end, one at a time."""

    name = "emulated"

    def __init__(self) -> None:
        self._settings = Settings()
        self._functions: dict[tuple[str | Path, str, str], Callable[..., None]] = {}
        self._libraries: dict[tuple[str | Path, str], Library] = {}
        self._lock = Lock()

    def require(self) -> None:
        """See that kernels can be compiled.

        Raises:
            InputError: g++ is missing or too old; says how to install it.
        """
        compiler.find()

    @contextmanager
    def settings(self, **changes: Any) -> Iterator[None]:
        """Launch otherwise for a while, in all threads of Python.

        Args:
            changes: ``order`` of the threads of a block, "forward", "reverse" or "random", by ``seed``;
                ``late_copies``: asynchronous copies arrive when they are waited for, else at once;
                ``mode``: "fast", "asan" (AddressSanitizer, UBSan) or "tsan" (ThreadSanitizer); the last two need
                the sanitizer's runtime in this process from its start, by LD_PRELOAD.
        """
        before, self._settings = self._settings, replace(self._settings, **changes)
        try:
            yield
        finally:
            self._settings = before

    def empty(self, shape: tuple[int, ...], dtype: Any = np.float32) -> np.ndarray:
        """An array of undefined values."""
        return np.empty(shape, dtype)

    def asarray(self, array: np.ndarray) -> np.ndarray:
        """The array itself."""
        return array

    def asnumpy(self, array: np.ndarray) -> np.ndarray:
        """The array itself."""
        return array

    def get_function(self, file: str | Path, kernel: str) -> Callable[..., None]:
        """``function(grid, block, args, shared_mem)`` of a kernel; compiles its file at the first call.

        Raises:
            GzkernError: the file does not compile, or has no such kernel.
        """
        key = file, kernel, self._settings.mode
        function = self._functions.get(key)
        if function is None:
            with self._lock:
                library = self._library(file, self._settings.mode)
            if kernel not in library.kernels:
                raise GzkernError(f"{file}: no kernel {kernel!r}; it has {', '.join(library.kernels)}")
            function = self._functions[key] = self._function(library, library.kernels[kernel])
        return function

    def compile_all(self, files: Iterable[str | Path], mode: str = "fast") -> dict[str | Path, float]:
        """Compile files that the cache does not have, one a core at a time; the seconds that each took.

        Raises:
            GzkernError: one does not compile.
        """
        compiler.find()

        def compile_one(file: str | Path) -> float:
            begin = time.perf_counter()
            compiler.compile_source(file, mode)
            return time.perf_counter() - begin

        files = list(files)
        with ThreadPoolExecutor(_cores()) as pool:
            return dict(zip(files, pool.map(compile_one, files), strict=True))

    def _library(self, file: str | Path, mode: str) -> Library:
        if (file, mode) not in self._libraries:
            self._libraries[file, mode] = Library(compiler.compile_source(file, mode))
        return self._libraries[file, mode]

    def _function(self, library: Library, kernel: CompiledKernel) -> Callable[..., None]:
        def function(grid: tuple[int, ...], block: tuple[int, ...], args: Sequence[Any], shared_mem: int = 0) -> None:
            threads = math.prod(block)
            if not 0 < threads <= kernel.most_threads:
                raise GzkernError(f"{kernel.name}: a block of {block} threads, expected 1 to {kernel.most_threads}")
            if shared_mem > MOST_SHARED:
                raise GzkernError(f"{kernel.name}: {shared_mem} bytes of shared memory, expected at most {MOST_SHARED}")
            arguments = kernel.pack(args)
            settings = self._settings
            workers = _cores() if settings.mode == "fast" else 1
            with self._lock:
                launch = Launch(
                    grid=(*grid, 1, 1)[:3],
                    block=(*block, 1, 1)[:3],
                    shared_bytes=shared_mem,
                    order=ORDERS.index(settings.order),
                    seed=settings.seed,
                    late_copies=settings.late_copies,
                    workers=workers,
                    memory=_memory(library.worker_bytes, library.worker_alignment, workers),
                    arguments=arguments,
                )
                kernel.run(launch)
            if launch.failed:
                raise GzkernError(f"{kernel.name}: {launch.message.decode(errors='replace')}")

        return function


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@cache
def _memory(size: int, alignment: int, workers: int) -> int:
    """The address of memory for the stacks of so many workers: pages appear as they are touched, and stay."""
    mapping = mmap.mmap(-1, workers * size + alignment, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_NORESERVE)
    anchor = ctypes.c_char.from_buffer(mapping)
    _anchors.append(anchor)
    return -(-ctypes.addressof(anchor) // alignment) * alignment


_anchors: list[Any] = []
