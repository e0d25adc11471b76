"""A GPU as a backend: its arrays and launches, through CuPy."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache, cached_property
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from ..core.processes import Workers, cores
from ..errors import GzkernError, OutOfMemory
from . import gpu, nvrtc, source
from .backend import Limits, StagingBuffer, Unit
from .cuda_graph import capture
from .cuda_staging_buffer import CudaStagingBuffer

_OUT_OF_MEMORY = 2  # cudaErrorMemoryAllocation, CUDA_ERROR_OUT_OF_MEMORY
_PIECE = 2**26  # bytes of an array that are copied to a GPU at once
_WITHOUT_OPT_IN = 48 * 1024  # bytes of shared memory, static and dynamic, that a block may have by default
_MOST_SHARED = 100  # CU_SHAREDMEM_CARVEOUT_MAX_SHARED, per cent


def backend(number: int = 0) -> CudaBackend:
    """One GPU; always the same object, so that a kernel is loaded once."""
    return _backend(number)


@cache
def _backend(number: int) -> CudaBackend:
    return CudaBackend(number)


class CudaBackend:
    """A GPU as a backend of launches: arrays are CuPy's, launches go to CuPy's current stream."""

    name = "cuda"

    def __init__(self, number: int):
        self._number = number
        self._functions: dict[tuple[str | Path, str, tuple[int, ...]], Callable[..., None]] = {}
        self._modules: dict[tuple[str | Path, tuple[int, ...]], tuple[source.Source, Any]] = {}
        self._lock = Lock()

    def empty(self, shape: tuple[int, ...], dtype: Any = np.float32) -> Any:
        """A C-contiguous array of undefined values."""
        import cupy

        with self._reporting(f"an array of {math.prod(shape) * np.dtype(dtype).itemsize / 2**30:.1f} GiB"):
            return cupy.empty(shape, dtype)

    def asarray(self, array: np.ndarray) -> Any:
        """A NumPy array as CuPy's; a large one by pieces, since CuPy copies the whole to page-locked memory first."""
        import cupy

        rows = max(_PIECE // max(array[:1].nbytes, 1), 1) if array.ndim else 1
        if array.nbytes <= _PIECE or len(array) <= rows:
            with self._reporting("copying to the GPU"):
                return cupy.asarray(array)
        whole = self.empty(array.shape, array.dtype)
        for first in range(0, len(array), rows):
            self.write(whole[first : first + rows], array[first : first + rows])
        return whole

    def write(self, array: Any, values: np.ndarray) -> None:
        """Write values of the host into an array, in order with launches."""
        with self._reporting("copying to the GPU"):
            array.set(np.ascontiguousarray(values, array.dtype))

    def asnumpy(self, array: Any) -> np.ndarray:
        """A CuPy array as NumPy's, once all that was launched before is done."""
        import cupy

        with self._reporting("copying from the GPU, or what was launched before"):
            return cupy.asnumpy(array)

    def free_bytes(self) -> int:
        """Memory that nobody uses."""
        import cupy

        with self._reporting("asking for its memory"):
            return int(cupy.cuda.runtime.memGetInfo()[0])

    def external(self, array: Any, name: str) -> Any:
        """The array itself: nothing is captured."""
        return array

    def range(self, name: str) -> AbstractContextManager[None]:
        """An NVTX range, which profilers show."""
        from cupy.cuda import nvtx
        from cupyx.profiler import time_range

        return time_range(name) if nvtx.available else nullcontext()

    def side_stream(self) -> AbstractContextManager[None]:
        """Launches go one after the other."""
        return nullcontext()

    def describe(self) -> dict[str, Any]:
        """The GPU, its driver, and what compiles and launches the kernels."""
        import cupy

        driver = gpu.driver_version()
        return {
            "gpu": gpu.describe(self._number)["gpu"],
            "driver": gpu.driver_release(),
            "cuda": gpu.dotted(driver) if driver else None,
            "cupy": cupy.__version__,
            "nvrtc": gpu.dotted(nvrtc.version()),
        }

    @property
    def home(self) -> CudaBackend:
        """Itself."""
        return self

    @cached_property
    def limits(self) -> Limits:
        """The limits of this GPU."""
        return Limits(
            gpu.capability(self._number),
            gpu.attribute("MultiProcessorCount", self._number),
            gpu.attribute("MaxSharedMemoryPerBlockOptin", self._number),
        )

    def get_function(self, file: str | Path, kernel: str, tile: tuple[int, ...] = ()) -> Callable[..., None]:
        """``function(grid, block, args, shared_mem)`` of a kernel; compiles its file at the first call.

        Raises:
            GzkernError: the file does not compile, or has no such kernel.
        """
        key = file, kernel, tile
        function = self._functions.get(key)
        if function is None:
            with self._lock, self._reporting(kernel):
                function = self._functions[key] = self._load(*key)
        return function

    def replay(self, calls: Sequence[Callable[[], None]], side_stream: Sequence[bool]) -> Callable[[], None]:
        """A function that launches all of them as one CUDA graph, those of the side stream on a second branch."""
        with self._reporting("making a CUDA graph"):
            launch = capture(calls, side_stream)

        def play() -> None:
            with self._reporting("a captured program"):
                launch()

        return play

    def staging_buffer(
        self, slots: int, blocks: int, arrays: Mapping[str, tuple[tuple[int, ...], Any]]
    ) -> StagingBuffer:
        """Allocate a :class:`backend.StagingBuffer`: filled on the host, copied while launches read."""
        with self._reporting("allocating"):
            return CudaStagingBuffer(slots, blocks, arrays, self._reporting)

    def compile_all(self, units: Iterable[Unit]) -> dict[Unit, float]:
        """Compile what the cache on disk lacks, in a process a core; return the seconds that each unit took.

        NVRTC holds a lock of its process while it compiles, so threads would wait for each other.

        Raises:
            GzkernError: one does not compile.
        """
        architecture = nvrtc.architecture(gpu.capability(self._number))
        units = list(units)
        most = max(1, min(cores(), len(units)))
        longest_first = sorted(units, key=lambda unit: not unit[1])  # tiles are compiled fully unrolled
        with Workers(nvrtc.compile_unit, most) as workers, ThreadPoolExecutor(most) as threads:
            found = threads.map(lambda unit: workers.ask(*unit, architecture), longest_first)
            seconds = dict(zip(longest_first, found, strict=True))
        return {unit: seconds[unit] for unit in units}

    def _load(self, file: str | Path, kernel: str, tile: tuple[int, ...]) -> Callable[..., None]:
        from cupy.cuda import driver

        code, module = self._module(file, tile)
        if kernel not in code.kernels:
            raise GzkernError(f"{code.name}: no kernel {kernel!r}; it has {', '.join(code.kernels)}")
        handle = module.get_function(kernel)
        static = driver.funcGetAttribute(driver.CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES, handle.ptr)
        prepared = 0  # bytes of dynamic shared memory

        def function(grid: tuple[int, ...], block: tuple[int, ...], args: Sequence[Any], shared_mem: int = 0) -> None:
            nonlocal prepared
            with self._reporting(kernel):
                if shared_mem > prepared:
                    _prepare_shared_memory(handle, static, shared_mem)
                    prepared = shared_mem
                handle(grid, block, args, shared_mem)

        return function

    def _module(self, file: str | Path, tile: tuple[int, ...]) -> tuple[source.Source, Any]:
        from cupy.cuda.function import Module

        if (file, tile) not in self._modules:
            code, module = source.load(file, tile), Module()
            module.load(nvrtc.image(code, nvrtc.architecture(gpu.capability(self._number))))
            self._modules[file, tile] = code, module
        return self._modules[file, tile]

    @contextmanager
    def _reporting(self, what: str) -> Iterator[None]:
        """Have this GPU be CuPy's current one, and name what it was doing when it fails."""
        from cupy.cuda import Device, driver, memory, runtime

        try:
            with Device(self._number):
                yield
        except memory.OutOfMemoryError as error:
            raise self._does_not_fit(what, error) from error
        except (driver.CUDADriverError, runtime.CUDARuntimeError) as error:
            if error.status == _OUT_OF_MEMORY:
                raise self._does_not_fit(what, error) from error
            raise GzkernError(f"GPU {self._number}: {what}: {gpu.first_line(error)}") from error

    def _does_not_fit(self, what: str, error: Exception) -> OutOfMemory:
        from cupy.cuda import runtime

        free, whole = (count / 2**30 for count in runtime.memGetInfo())
        sizes = f"{free:.1f} of its {whole:.1f} GiB are free"
        return OutOfMemory(f"GPU {self._number}: {what} does not fit: {sizes} ({gpu.first_line(error)})")


def _prepare_shared_memory(handle: Any, static: int, dynamic: int) -> None:
    """Set the attributes that a kernel needs before it is launched with so many bytes of shared memory a block.

    The carveout is what a multiprocessor takes for shared memory from the memory that it shares with L1. These kernels
    copy past L1, so they prefer all of it: with less, fewer of their blocks are resident.
    """
    from cupy.cuda import driver

    driver.funcSetAttribute(handle.ptr, driver.CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT, _MOST_SHARED)
    if static + dynamic > _WITHOUT_OPT_IN:
        driver.funcSetAttribute(handle.ptr, driver.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, dynamic)
