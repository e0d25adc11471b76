"""The emulated device as a backend of launches."""

from __future__ import annotations

import ctypes
import math
import mmap
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from ...core.processes import cores, free_memory
from ...errors import GzkernError
from .. import source
from ..backend import ALIGNMENT, Limits, Unit
from ..kernel import Geometry, Kernel
from . import compiler, sanitizers
from .shared_library import Array, CompiledKernel, Launch, Library
from .trace import LaunchTrace, read, spread

ORDERS = ("forward", "reverse", "random")

LIMITS = Limits(capability=90, multiprocessors=132, shared_bytes=227 * 1024)
"""Those of an H100 or H200, so that their tiles are the ones that are proved."""

_MAP_NORESERVE = 0x4000  # of Linux; Python names it from 3.13 on


@dataclass(frozen=True)
class Settings:
    """Settings of compilation and of the order of threads; see ``Emulator.settings``."""

    order: str = "forward"
    seed: int = 0
    late_copies: bool = False
    mode: str = "fast"
    blocks: int | None = None

    def __post_init__(self) -> None:
        for value, values in ((self.order, ORDERS), (self.mode, compiler.MODES)):
            if value not in values:
                raise GzkernError(f"emulated device: setting {value!r}, expected {' or '.join(values)}")


class Emulator:
    """A device whose arrays are NumPy's; launches are run to their end, one at a time."""

    name = "emulated"
    limits = LIMITS

    def __init__(self) -> None:
        self.threads = cores()  # that share out the blocks of a launch
        self._settings = Settings()
        self._functions: dict[tuple[str | Path, str, tuple[int, ...], str], Callable[..., None]] = {}
        self._libraries: dict[tuple[str | Path, tuple[int, ...], str], Library] = {}
        self._traces: list[LaunchTrace] = []
        self._lock = Lock()

    @property
    def home(self) -> Emulator:
        """Itself."""
        return self

    def require(self) -> None:
        """See that kernels can be compiled.

        Raises:
            InputError: g++ is missing or too old; says how to install it.
        """
        compiler.find()

    def free_bytes(self) -> int:
        """Memory that nobody uses."""
        return free_memory()

    def external(self, array: Any, name: str) -> Any:
        """The array itself: nothing is captured."""
        return array

    def range(self, name: str) -> AbstractContextManager[None]:
        """Names mean nothing here."""
        return nullcontext()

    def side_stream(self) -> AbstractContextManager[None]:
        """Launches go one after the other."""
        return nullcontext()

    def describe(self) -> dict[str, Any]:
        """The compiler of the kernels."""
        return {"gxx": compiler.find().version}

    @contextmanager
    def settings(self, **changes: Any) -> Iterator[Emulator]:
        """Launch otherwise for a while, in all threads of Python.

        Args:
            changes: ``order`` of the threads of a block, "forward", "reverse" or "random", by ``seed``;
                ``late_copies``: asynchronous copies arrive when they are waited for, else at once;
                ``mode``: "fast", "asan" (AddressSanitizer, UBSan), "tsan" (ThreadSanitizer) or "trace", of which
                :meth:`trace` tells, and which finds stores that ``wgmma`` reads without ``fence_async``;
                "asan" and "tsan" need the sanitizer's runtime in this process from its start, by LD_PRELOAD;
                ``blocks``: run so many blocks of each launch, spread over its grid, and leave the others out.
        """
        before, self._settings = self._settings, replace(self._settings, **changes)
        try:
            yield self
        finally:
            self._settings = before

    def trace(self) -> list[LaunchTrace]:
        """Memory traces of the launches in mode "trace" since the last call of this function."""
        traces, self._traces = self._traces, []
        return traces

    def empty(self, shape: tuple[int, ...], dtype: Any = np.float32) -> np.ndarray:
        """An array of undefined values."""
        return np.empty(shape, dtype)

    def asarray(self, array: np.ndarray) -> np.ndarray:
        """The array itself, or a copy of a view that begins where kernels cannot load four numbers at once."""
        return array.copy() if array.__array_interface__["data"][0] % ALIGNMENT else array

    def write(self, array: np.ndarray, values: np.ndarray) -> None:
        """Write values into an array."""
        array[...] = values

    def asnumpy(self, array: np.ndarray) -> np.ndarray:
        """The array itself."""
        return array

    def get_function(self, file: str | Path, kernel: str, tile: tuple[int, ...] = ()) -> Callable[..., None]:
        """``function(grid, block, args, shared_mem)`` of a kernel; compiles its file at the first call.

        Raises:
            GzkernError: the file does not compile, or has no such kernel.
        """
        mode = self._settings.mode
        key = file, kernel, tile, mode
        function = self._functions.get(key)
        if function is None:
            with self._lock:
                library = self._library(file, tile, mode)
            if kernel not in library.kernels:
                raise GzkernError(f"{file}: no kernel {kernel!r}; it has {', '.join(library.kernels)}")
            function = self._functions[key] = partial(
                self._launch, Kernel(file, kernel, tile), library, library.kernels[kernel]
            )
        return function

    def replay(self, calls: Sequence[Callable[[], None]], side_stream: Sequence[bool]) -> Callable[[], None]:
        """A function that makes all launches, one after the other."""
        del side_stream

        def play() -> None:
            for call in calls:
                call()

        return play

    def staging_buffer(
        self, slots: int, blocks: int, arrays: Mapping[str, tuple[tuple[int, ...], Any]]
    ) -> EmulatedStagingBuffer:
        """Allocate a staging buffer whose copies are done when they are asked for."""
        return EmulatedStagingBuffer(slots, blocks, arrays)

    def compile_all(self, units: Iterable[Unit], mode: str = "fast") -> dict[Unit, float]:
        """Compile what the cache does not have, one a core at a time; the seconds that each took.

        Raises:
            GzkernError: one does not compile.
        """
        compiler.find()

        def compile_one(unit: Unit) -> float:
            begin = time.perf_counter()
            compiler.compile_source(source.load(*unit), mode)
            return time.perf_counter() - begin

        units = list(units)
        with ThreadPoolExecutor(cores()) as pool:
            return dict(zip(units, pool.map(compile_one, units), strict=True))

    def _library(self, file: str | Path, tile: tuple[int, ...], mode: str) -> Library:
        key = file, tile, mode
        if key not in self._libraries:
            if mode in sanitizers.MODES:
                sanitizers.require_runtime(mode)
            self._libraries[key] = Library(compiler.compile_source(source.load(file, tile), mode))
        return self._libraries[key]

    def _launch(
        self,
        origin: Kernel,
        library: Library,
        kernel: CompiledKernel,
        grid: tuple[int, ...],
        block: tuple[int, ...],
        args: Sequence[Any],
        shared_mem: int = 0,
    ) -> None:
        if not 0 < math.prod(block) <= kernel.most_threads:
            raise GzkernError(f"{kernel.name}: a block of {block} threads, expected 1 to {kernel.most_threads}")
        if not 0 <= shared_mem <= LIMITS.shared_bytes:
            raise GzkernError(
                f"{kernel.name}: {shared_mem} bytes of shared memory, expected 0 to {LIMITS.shared_bytes}"
            )
        settings = self._settings
        workers = self.threads if settings.mode == "fast" else 1
        launch = Launch(
            grid=(*grid, 1, 1)[:3],
            block=(*block, 1, 1)[:3],
            shared_bytes=shared_mem,
            order=ORDERS.index(settings.order),
            seed=settings.seed,
            late_copies=settings.late_copies,
            workers=workers,
        )
        if settings.mode == "trace":
            arrays = [Array(each.ctypes.data, each.nbytes) for each in args if isinstance(each, np.ndarray)]
            launch.arrays, launch.array_count = (Array * len(arrays))(*arrays), len(arrays)
        if settings.blocks and settings.blocks < math.prod(grid):
            chosen = spread(settings.blocks, math.prod(grid))
            launch.chosen, launch.chosen_count = (ctypes.c_ulonglong * len(chosen))(*chosen), len(chosen)
        with self._lock:
            launch.memory = _memory(workers, library.worker_bytes, library.worker_alignment).address
            kernel(launch, args)
            if settings.mode == "trace" and not launch.has_failed:
                geometry = Geometry(tuple(grid), tuple(block), shared_mem)
                self._traces.append(read(origin, geometry, args, library))
        if launch.has_failed:
            raise GzkernError(f"{kernel.name}: {launch.message.decode(errors='replace')}")


class EmulatedStagingBuffer:
    """A :class:`backend.StagingBuffer` whose copies and launches are done when they return."""

    def __init__(self, slots: int, blocks: int, arrays: Mapping[str, tuple[tuple[int, ...], Any]]):
        self._slots, self._blocks = slots, blocks
        self.arrays = {name: np.zeros((2 * slots, *shape), dtype) for name, (shape, dtype) in arrays.items()}
        self.host = {name: np.zeros((blocks * slots, *shape), dtype) for name, (shape, dtype) in arrays.items()}

    def send(self, block: int) -> None:
        """Copy a block."""
        to, start = block % 2 * self._slots, block % self._blocks * self._slots
        for name, array in self.arrays.items():
            array[to : to + self._slots] = self.host[name][start : start + self._slots]

    def wait_sent(self, block: int) -> None:
        """Nothing to wait for: it has left."""

    def enter(self, block: int) -> None:
        """Launches read what is there."""

    def close(self) -> None:
        """Nothing is on its way."""


class _Memory:
    """Zeros, aligned; its pages appear as they are touched, and stay."""

    def __init__(self, size: int, alignment: int):
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_NORESERVE
        self._begin = ctypes.c_char.from_buffer(mmap.mmap(-1, size + alignment, flags=flags))
        self.address = -(-ctypes.addressof(self._begin) // alignment) * alignment


@cache
def _memory(workers: int, size: int, alignment: int) -> _Memory:
    """Memory in which so many workers run blocks: lent to one launch after the other, whatever its file."""
    return _Memory(workers * size, alignment)
