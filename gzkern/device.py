"""Choice of the device that computes, by argument, then ``GZKERN_DEVICE``, then ``auto``."""

from __future__ import annotations

import importlib
import os
import sys
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from types import ModuleType
from typing import Any

import numpy as np

from .errors import InputError
from .processes import cores

MOST_WORKERS = 256
"""More threads or processes than any machine has use for are a slip of the finger."""

NAMES = ("auto", "cpu", "cuda", "emulated")


class Device:
    """A device and its operations: ``device.conv2d`` is the module of that operation on this device.

    ``cpu`` computes with other algorithms; ``cuda`` and ``emulated`` run the kernels, on CuPy's and on NumPy's
    arrays. ``synchronous``: a result is there when its call returns, so that looking at it costs no wait.
    """

    def __init__(self, name: str, backend: Any = None):
        self.name = name
        self.synchronous = name != "cuda"
        self._backend = backend
        self._package = "gzkern.cpu" if backend is None else "gzkern.cuda"

    def __getattr__(self, operation: str) -> ModuleType:
        if operation.startswith("_"):
            raise AttributeError(operation)
        return _operation(f"{self._package}.{operation}")

    def asarray(self, array: np.ndarray) -> Any:
        """A NumPy array as one of this device's."""
        return array if self._backend is None else self._backend.asarray(array)

    def write(self, array: Any, values: np.ndarray) -> None:
        """Write values into an array of this device."""
        if self._backend is None:
            array[...] = values
        else:
            self._backend.write(array, values)

    def asnumpy(self, array: Any) -> np.ndarray:
        """One of this device's arrays as a NumPy array."""
        return np.asarray(array) if self._backend is None else self._backend.asnumpy(array)

    @property
    def backend(self) -> Any:
        """What launches the kernels; None on the CPU."""
        return self._backend

    def outside(self, array: Any, name: str) -> Any:
        """An array that outlives what is done with it, as a recording knows it; else the array itself."""
        return array if self._backend is None else self._backend.outside(array, name)

    def range(self, name: str) -> AbstractContextManager[None]:
        """What is launched within bears this name in a recording, or in a profile."""
        return nullcontext() if self._backend is None else self._backend.range(name)

    def describe(self) -> dict[str, Any]:
        """What its bits depend on beside processor and Python packages: a GPU's name, compilers."""
        return {} if self._backend is None else self._backend.describe()

    def __repr__(self) -> str:
        return f"Device({self.name!r})"


@cache
def _operation(module: str) -> ModuleType:
    return importlib.import_module(module)


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
        return Device(name)
    if name == "emulated":
        from .emulator import backend

        backend.require()
        _say("device emulated: the CUDA kernels on the CPU, for study and tests; for speed take cpu or cuda")
        return Device(name, backend)
    from .cuda.device import backend as cuda
    from .cuda.device import notes, require

    require()
    for note in notes():
        _say(f"device cuda: {note}")
    return Device(name, cuda())


@cache
def _auto() -> Device:
    from .cuda.device import missing

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
    if precision != "fp32" and device.backend is None:
        raise InputError(f"precision {precision!r}: device {device.name!r} computes in fp32 alone")


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
        from .emulator import backend

        backend.threads = count or backend.threads
        return backend.threads
    return count or limit
