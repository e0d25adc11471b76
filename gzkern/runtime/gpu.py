"""The GPU: whether one answers, what it is, and the launches on it, through CuPy."""

from __future__ import annotations

import ctypes
import math
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache, cached_property, partial
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from ..core.processes import Workers, cores
from ..errors import GzkernError, InputError, OutOfMemory
from . import nvrtc, source
from .backend import Limits, StagingBuffer, Unit
from .cuda_graph import CudaStagingBuffer, capture

_OUT_OF_MEMORY = 2  # cudaErrorMemoryAllocation, CUDA_ERROR_OUT_OF_MEMORY
_NO_DEVICE = 100  # cudaErrorNoDevice
_PIECE = 2**26  # bytes of an array that are copied to a GPU at once
_WITHOUT_OPT_IN = 48 * 1024  # bytes of shared memory, static and dynamic, that a block may have by default
_MOST_SHARED = 100  # CU_SHAREDMEM_CARVEOUT_MAX_SHARED, per cent


def missing() -> str | None:
    """Say why the kernels cannot run on GPU 0 and what to do about it, or None where they can."""
    driver = driver_version()
    if driver is None:
        return 'no NVIDIA driver is loaded; with an NVIDIA GPU, install its driver and pip install "gzkern[cuda13]"'
    install = f'pip install "gzkern[{extra()}]"'
    if driver < (12, 0):
        return f"the NVIDIA driver is for CUDA {_dotted(driver)}; install one for CUDA 12 or newer, and {install}"
    try:
        import cupy
    except Exception as error:  # see nvrtc.missing
        return _not_imported(error, install)
    runtime = cupy.cuda.runtime
    made_for = runtime.runtimeGetVersion() // 1000
    if made_for > driver[0]:
        return _too_new(f"CuPy is made for CUDA {made_for}", driver, f"cupy-cuda{made_for}x nvidia-cuda-nvrtc")
    reason = nvrtc.missing()
    if reason:
        return f"NVRTC cannot be loaded ({reason}); {install}"
    compiler = nvrtc.version()
    if compiler[0] > driver[0]:
        return _too_new(f"NVRTC is that of CUDA {_dotted(compiler)}", driver, "nvidia-cuda-nvrtc")
    try:
        count = runtime.getDeviceCount()
    except runtime.CUDARuntimeError as error:
        if error.status != _NO_DEVICE:
            return f"the GPU does not answer ({_first_line(error)}); see what nvidia-smi says of it"
        count = 0
    if count == 0:
        return _no_gpu()
    capabilities = [_capability(number) for number in range(count)]
    if capabilities[0] < nvrtc.OLDEST:
        return _too_old(capabilities)
    if nvrtc.architecture(capabilities[0]).startswith("compute") and compiler > driver:
        return (
            f"{_unknown(capabilities[0])}, and the driver for CUDA {_dotted(driver)} cannot translate what a newer "
            "NVRTC compiles; update the driver"
        )
    return None


def notes() -> list[str]:
    """Say what a user should know of a GPU that :func:`missing` finds nothing wrong with, a sentence each."""
    import cupy

    found = []
    count, capability = cupy.cuda.runtime.getDeviceCount(), _capability(0)
    if count > 1:
        name = cupy.cuda.runtime.getDeviceProperties(0)["name"].decode()
        found.append(f"GPU 0 of {count} is used, {name}; CUDA_VISIBLE_DEVICES=N chooses GPU N")
    architecture = nvrtc.architecture(capability)
    if architecture.startswith("compute"):
        found.append(
            f"{_unknown(capability)}: kernels are compiled for {architecture}, and translated by the driver; "
            f"pip install --upgrade {_nvrtc_package()}"
        )
    return found


def require() -> None:
    """See that a GPU can run the kernels.

    Raises:
        InputError: what :func:`missing` says.
    """
    reason = missing()
    if reason:
        raise InputError(f"device 'cuda': {reason}, or use --device cpu")


def driver_version() -> tuple[int, int] | None:
    """The newest CUDA that the NVIDIA driver runs; None without a driver."""
    version = ctypes.c_int(0)
    try:
        ctypes.CDLL("libcuda.so.1").cuDriverGetVersion(ctypes.byref(version))
    except (OSError, AttributeError):
        return None
    return divmod(version.value // 10, 100) if version.value else None


def driver_release() -> str | None:
    """The release of the NVIDIA driver, such as "580.95.05"; None where the kernel module does not tell it."""
    try:
        text = Path("/proc/driver/nvidia/version").read_text(encoding="utf-8")
    except OSError:
        return None
    found = re.search(r"Kernel Module\D*(\d+(?:\.\d+)+)", text)
    return found[1] if found else None


def extra() -> str | None:
    """The extra of this package that fits the NVIDIA driver; None without a driver."""
    driver = driver_version()
    if driver is None:
        return None
    return "cuda13" if driver >= (13, 0) else "cuda12"


def describe(number: int) -> dict[str, Any]:
    """What a GPU is: units in the names, peaks computed from its clocks (None where the driver tells none)."""
    import cupy

    properties = cupy.cuda.runtime.getDeviceProperties(number)
    attribute = partial(_attribute, number=number)
    capability = _capability(number)
    multiprocessors = attribute("MultiProcessorCount")
    clock, memory_clock = attribute("ClockRate") * 1e3, attribute("MemoryClockRate") * 1e3
    units = 64 if capability == 80 else 128  # that compute in FP32, of a multiprocessor
    return {
        "gpu": properties["name"].decode(),
        "driver": _dotted(driver_version() or (0, 0)),
        "compute_capability": capability / 10,
        "architecture": nvrtc.architecture(capability),
        "memory_bytes": properties["totalGlobalMem"],
        "multiprocessors": multiprocessors,
        "clock_mhz": clock / 1e6,
        "memory_clock_mhz": memory_clock / 1e6,
        "l2_bytes": attribute("L2CacheSize"),
        "peak_fp32_tflops": 2 * units * multiprocessors * clock / 1e12 or None,
        "peak_memory_gb_s": 2 * memory_clock * attribute("GlobalMemoryBusWidth") / 8 / 1e9 or None,
    }


def describe_all() -> list[dict[str, Any]]:
    """All GPUs of this machine that :func:`missing` finds nothing wrong with."""
    import cupy

    return [describe(number) for number in range(cupy.cuda.runtime.getDeviceCount())]


def backend(number: int = 0) -> Cuda:
    """One GPU; always the same object, so that a kernel is loaded once."""
    return _backend(number)


@cache
def _backend(number: int) -> Cuda:
    return Cuda(number)


class Cuda:
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
        """The array itself: nothing is recorded."""
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

        driver = driver_version()
        return {
            "gpu": describe(self._number)["gpu"],
            "driver": driver_release(),
            "cuda": _dotted(driver) if driver else None,
            "cupy": cupy.__version__,
            "nvrtc": _dotted(nvrtc.version()),
        }

    @property
    def home(self) -> Cuda:
        """Itself."""
        return self

    @cached_property
    def limits(self) -> Limits:
        """What a block may have on this GPU."""
        return Limits(
            _capability(self._number),
            _attribute("MultiProcessorCount", self._number),
            _attribute("MaxSharedMemoryPerBlockOptin", self._number),
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
        """What launches all of them as one CUDA graph, those that go aside on a second branch."""
        with self._reporting("making a CUDA graph"):
            launch = capture(calls, side_stream)

        def play() -> None:
            with self._reporting("a recorded program"):
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
        architecture = nvrtc.architecture(_capability(self._number))
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
            module.load(nvrtc.image(code, nvrtc.architecture(_capability(self._number))))
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
            raise GzkernError(f"GPU {self._number}: {what}: {_first_line(error)}") from error

    def _does_not_fit(self, what: str, error: Exception) -> OutOfMemory:
        from cupy.cuda import runtime

        free, whole = (count / 2**30 for count in runtime.memGetInfo())
        sizes = f"{free:.1f} of its {whole:.1f} GiB are free"
        return OutOfMemory(f"GPU {self._number}: {what} does not fit: {sizes} ({_first_line(error)})")


def _prepare_shared_memory(handle: Any, static: int, dynamic: int) -> None:
    """Set the attributes that a kernel needs before it is launched with so many bytes of shared memory a block.

    The carveout is what a multiprocessor takes for shared memory from the memory that it shares with L1. These kernels
    copy past L1, so they prefer all of it: with less, fewer of their blocks are resident.
    """
    from cupy.cuda import driver

    driver.funcSetAttribute(handle.ptr, driver.CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT, _MOST_SHARED)
    if static + dynamic > _WITHOUT_OPT_IN:
        driver.funcSetAttribute(handle.ptr, driver.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, dynamic)


def _attribute(name: str, number: int) -> int:
    """A cudaDeviceAttr of a GPU, by what follows that prefix."""
    from cupy.cuda import runtime

    return int(runtime.deviceGetAttribute(getattr(runtime, f"cudaDevAttr{name}"), number))


def _capability(number: int) -> int:
    """Compute capability, times ten."""
    import cupy

    return int(cupy.cuda.Device(number).compute_capability)


def _not_imported(error: Exception, install: str) -> str:
    if isinstance(error, ImportError) and error.name == "cupy":
        return f"CuPy is not installed; {install}"
    remedy = "set CUPY_CACHE_DIR to a folder that can be written to" if isinstance(error, OSError) else install
    return f"CuPy cannot be imported ({_first_line(error)}); {remedy}"


def _no_gpu() -> str:
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return "the NVIDIA driver finds no GPU; see what nvidia-smi lists"
    return f"CUDA_VISIBLE_DEVICES={visible!r} hides every GPU; unset it, or name one that nvidia-smi lists"


def _too_old(capabilities: Sequence[int]) -> str:
    """Say that GPU 0 is too old, and which other GPU is not."""
    needed = f"compute capability {capabilities[0] / 10}; the kernels need {nvrtc.OLDEST / 10} or newer"
    fitting = [number for number, capability in enumerate(capabilities) if capability >= nvrtc.OLDEST]
    if not fitting:
        return f"the GPU has {needed}"
    return f"GPU 0 of {len(capabilities)} has {needed}; set CUDA_VISIBLE_DEVICES so that GPU {fitting[0]} is the first"


def _unknown(capability: int) -> str:
    return f"NVRTC {_dotted(nvrtc.version())} does not know the GPU's compute capability {capability / 10}"


def _nvrtc_package() -> str:
    """Name the package of NVRTC for this driver."""
    return "nvidia-cuda-nvrtc-cu12" if extra() == "cuda12" else "nvidia-cuda-nvrtc"


def _too_new(what: str, driver: tuple[int, int], packages: str) -> str:
    return (
        f"{what}, the NVIDIA driver for CUDA {_dotted(driver)}; pip uninstall {packages}, "
        f'then pip install "gzkern[{extra()}]"'
    )


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]


def _dotted(version: tuple[int, int]) -> str:
    return f"{version[0]}.{version[1]}"
