"""Choice of the device that computes, by argument, then ``GZKERN_DEVICE``, then ``auto``."""

from __future__ import annotations

import os
import sys
from functools import cache

from .core.processes import cores
from .errors import InputError
from .runtime.backend import ArrayBackend, Backend
from .runtime.cpu_backend import CpuBackend
from .runtime.operations import KernelOperations, Operations

MOST_WORKERS = 256
"""More threads or processes than any machine has use for are a slip of the finger."""

NAMES = ("auto", "cpu", "cuda", "emulated")


class Device:
    """A device: its arrays (``backend``) and its operations.

    Attributes:
        name: "cpu", "cuda" or "emulated".
        backend: makes, reads and writes arrays.
        operations: the table of what it computes, as ``device.operations.conv2d.forward``.
        precisions: of the matrix products.
        synchronous: a result is there when its call returns, so that reading it costs no wait.
        asarray, asnumpy, write, external, range, describe: those of the backend, see :class:`ArrayBackend`.
    """

    def __init__(self, name: str, backend: ArrayBackend, operations: Operations, precisions: tuple[str, ...]):
        self.name = name
        self.backend = backend
        self.operations = operations
        self.precisions = precisions
        self.synchronous = name != "cuda"
        self.asarray = backend.asarray
        self.asnumpy = backend.asnumpy
        self.write = backend.write
        self.external = backend.external
        self.range = backend.range
        self.describe = backend.describe

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r})"


class KernelDevice(Device):
    """A device that runs the kernels: ``cuda``, ``emulated``, or one of them while a step is captured.

    Its steps can be captured and replayed, and it warps images.
    """

    backend: Backend
    operations: KernelOperations

    def __init__(self, name: str, backend: Backend):
        from .cuda.conv2d.choice import PRECISIONS
        from .cuda.operations import OPERATIONS

        super().__init__(name, backend, OPERATIONS, PRECISIONS)


def kernel_device(device: Device) -> KernelDevice:
    """The device itself, where it runs kernels.

    Raises:
        InputError: it is the CPU.
    """
    if not isinstance(device, KernelDevice):
        raise InputError(f"device {device.name!r} runs no kernels: it warps no images and captures no steps")
    return device


def select(name: str | Device | None = None) -> Device:
    """The device called ``name``; None asks ``GZKERN_DEVICE``, then takes "auto".

    "auto" is ``cuda`` where a GPU answers, else ``cpu``; which of them is said once, on stderr.

    Raises:
        InputError: no such device, or one that this machine does not have; says what is missing.
    """
    if isinstance(name, Device):
        return name
    name = name or os.environ.get("GZKERN_DEVICE") or "auto"
    if name not in NAMES:
        raise InputError(f"device {name!r}: expected one of {', '.join(NAMES)}")
    return _auto() if name == "auto" else _device(name)


@cache
def _device(name: str) -> Device:
    if name == "cpu":
        from .cpu.operations import OPERATIONS

        return Device(name, CpuBackend(), OPERATIONS, ("fp32",))
    if name == "emulated":
        from .runtime.emulator import backend

        backend.require()
        _say("device emulated: the CUDA kernels on the CPU, for study and tests; for speed take cpu or cuda")
        return KernelDevice(name, backend)
    from .runtime.cuda_backend import backend as cuda
    from .runtime.gpu import notes, require

    require()
    for note in notes():
        _say(f"device cuda: {note}")
    return KernelDevice(name, cuda())


@cache
def _auto() -> Device:
    from .runtime.gpu import missing

    reason = missing()
    name = "cpu" if reason else "cuda"
    _say(f"device {name}" + (f" ({reason})" if reason else ""))
    return _device(name)


def _say(message: str) -> None:
    print(f"gzkern: {message}", file=sys.stderr)


def require_precision(device: Device, precision: str) -> None:
    """Refuse a precision that the device does not compute in.

    Raises:
        InputError: names the precisions it has.
    """
    if precision not in device.precisions:
        offered = " or ".join(device.precisions)
        raise InputError(f"precision {precision!r}: device {device.name!r} computes in {offered} alone")


def set_threads(device: Device, count: int | None) -> int:
    """Set the number of threads that ``device`` computes with on the CPU and return it.

    None leaves it, by default one a core. A GPU computes with none.

    Raises:
        InputError: fewer than one, or more than the machine's cores.
    """
    limit = cores()
    if device.name == "cpu":
        import numba

        limit = numba.config.NUMBA_NUM_THREADS  # type: ignore[attr-defined]
    if count is not None and not 1 <= count <= limit:
        raise InputError(f"--threads {count}: expected 1 to {limit}, the cores of this machine")
    if device.name == "cpu":
        if count:
            numba.set_num_threads(count)
        return int(numba.get_num_threads())
    if device.name == "emulated":
        from .runtime.emulator import backend

        backend.threads = count or backend.threads
        return backend.threads
    return count or limit
