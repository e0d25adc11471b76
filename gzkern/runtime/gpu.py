"""The GPU: whether one answers, what it lacks, and its properties."""

from __future__ import annotations

import ctypes
import os
import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from ..errors import InputError
from . import nvrtc

_NO_DEVICE = 100  # cudaErrorNoDevice


def missing() -> str | None:
    """Say why the kernels cannot run on GPU 0 and what to do about it, or None where they can."""
    driver = driver_version()
    if driver is None:
        return 'no NVIDIA driver is loaded; with an NVIDIA GPU, install its driver and pip install "gzkern[cuda13]"'
    install = f'pip install "gzkern[{extra()}]"'
    if driver < (12, 0):
        return f"the NVIDIA driver is for CUDA {dotted(driver)}; install one for CUDA 12 or newer, and {install}"
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
        return _too_new(f"NVRTC is that of CUDA {dotted(compiler)}", driver, "nvidia-cuda-nvrtc")
    try:
        count = runtime.getDeviceCount()
    except runtime.CUDARuntimeError as error:
        if error.status != _NO_DEVICE:
            return f"the GPU does not answer ({first_line(error)}); see what nvidia-smi says of it"
        count = 0
    if count == 0:
        return _no_gpu()
    capabilities = [capability(number) for number in range(count)]
    if capabilities[0] < nvrtc.OLDEST:
        return _too_old(capabilities)
    if nvrtc.architecture(capabilities[0]).startswith("compute") and compiler > driver:
        return (
            f"{_unknown(capabilities[0])}, and the driver for CUDA {dotted(driver)} cannot translate what a newer "
            "NVRTC compiles; update the driver"
        )
    return None


def notes() -> list[str]:
    """Say what a user should know of a GPU that :func:`missing` finds nothing wrong with, a sentence each."""
    import cupy

    found = []
    count, newest = cupy.cuda.runtime.getDeviceCount(), capability(0)
    if count > 1:
        name = cupy.cuda.runtime.getDeviceProperties(0)["name"].decode()
        found.append(f"GPU 0 of {count} is used, {name}; CUDA_VISIBLE_DEVICES=N chooses GPU N")
    architecture = nvrtc.architecture(newest)
    if architecture.startswith("compute"):
        found.append(
            f"{_unknown(newest)}: kernels are compiled for {architecture}, and translated by the driver; "
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
    """Properties of a GPU: units in the names, peaks computed from its clocks (None where the driver tells none)."""
    import cupy

    properties = cupy.cuda.runtime.getDeviceProperties(number)
    ask = partial(attribute, number=number)
    compute_capability = capability(number)
    multiprocessors = ask("MultiProcessorCount")
    clock, memory_clock = ask("ClockRate") * 1e3, ask("MemoryClockRate") * 1e3
    units = 64 if compute_capability == 80 else 128  # that compute in FP32, of a multiprocessor
    return {
        "gpu": properties["name"].decode(),
        "driver": dotted(driver_version() or (0, 0)),
        "compute_capability": compute_capability / 10,
        "architecture": nvrtc.architecture(compute_capability),
        "memory_bytes": properties["totalGlobalMem"],
        "multiprocessors": multiprocessors,
        "clock_mhz": clock / 1e6,
        "memory_clock_mhz": memory_clock / 1e6,
        "l2_bytes": ask("L2CacheSize"),
        "peak_fp32_tflops": 2 * units * multiprocessors * clock / 1e12 or None,
        "peak_memory_gb_s": 2 * memory_clock * ask("GlobalMemoryBusWidth") / 8 / 1e9 or None,
    }


def describe_all() -> list[dict[str, Any]]:
    """All GPUs of this machine that :func:`missing` finds nothing wrong with."""
    import cupy

    return [describe(number) for number in range(cupy.cuda.runtime.getDeviceCount())]


def attribute(name: str, number: int) -> int:
    """A cudaDeviceAttr of a GPU, by what follows that prefix."""
    from cupy.cuda import runtime

    return int(runtime.deviceGetAttribute(getattr(runtime, f"cudaDevAttr{name}"), number))


def capability(number: int) -> int:
    """Compute capability, times ten."""
    import cupy

    return int(cupy.cuda.Device(number).compute_capability)


def _not_imported(error: Exception, install: str) -> str:
    if isinstance(error, ImportError) and error.name == "cupy":
        return f"CuPy is not installed; {install}"
    remedy = "set CUPY_CACHE_DIR to a folder that can be written to" if isinstance(error, OSError) else install
    return f"CuPy cannot be imported ({first_line(error)}); {remedy}"


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
    return f"NVRTC {dotted(nvrtc.version())} does not know the GPU's compute capability {capability / 10}"


def _nvrtc_package() -> str:
    """Name the package of NVRTC for this driver."""
    return "nvidia-cuda-nvrtc-cu12" if extra() == "cuda12" else "nvidia-cuda-nvrtc"


def _too_new(what: str, driver: tuple[int, int], packages: str) -> str:
    return (
        f"{what}, the NVIDIA driver for CUDA {dotted(driver)}; pip uninstall {packages}, "
        f'then pip install "gzkern[{extra()}]"'
    )


def first_line(error: Exception) -> str:
    """The first line of an error's message."""
    return str(error).strip().partition("\n")[0]


def dotted(version: tuple[int, int]) -> str:
    """A version as text, such as 13.0."""
    return f"{version[0]}.{version[1]}"
