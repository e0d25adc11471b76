"""Choice of the device that computes, by argument, then ``GZKERN_DEVICE``, then ``auto``."""

from __future__ import annotations

import importlib
import os
from functools import cache
from types import ModuleType
from typing import Any

from .errors import InputError

NAMES = ("auto", "cpu", "cuda", "emulated")


class Device:
    """A device and its operations: ``device.conv2d`` is the module of that operation on this device."""

    def __init__(self, name: str, package: str):
        self.name = name
        self._package = package

    def __getattr__(self, operation: str) -> ModuleType:
        if operation.startswith("_"):
            raise AttributeError(operation)
        return _operation(f"{self._package}.{operation}")

    def __repr__(self) -> str:
        return f"Device({self.name!r})"


@cache
def _operation(module: str) -> ModuleType:
    return importlib.import_module(module)


def select(name: str | Device | None = None) -> Device:
    """The device called ``name``; None asks ``GZKERN_DEVICE``, then takes "auto".

    Raises:
        InputError: no such device, or one that this version or machine does not have.
    """
    if isinstance(name, Device):
        return name
    name = name or os.environ.get("GZKERN_DEVICE") or "auto"
    if name not in NAMES:
        raise InputError(f"device {name!r}: expected one of {', '.join(NAMES)}")
    if name in ("cuda", "emulated"):
        raise InputError(
            f"device {name!r} is not part of gzkern {_version()}, which computes on the CPU; use --device cpu"
        )
    return Device("cpu", "gzkern.cpu")


def require_precision(device: Device, precision: str) -> None:
    """Refuse a precision that the device does not compute in.

    Raises:
        InputError: names the precisions it has.
    """
    if precision != "fp32":
        raise InputError(f"precision {precision!r}: device {device.name!r} computes in fp32 alone")


def set_threads(count: int | None) -> int:
    """Set the number of compute threads (None: leave it, by default one a core) and return it.

    Raises:
        InputError: fewer than one, or more than the machine's cores.
    """
    import numba

    limit = numba.config.NUMBA_NUM_THREADS  # type: ignore[attr-defined]
    if count is not None:
        if not 1 <= count <= limit:
            raise InputError(f"--threads {count}: expected 1 to {limit}, the cores of this machine")
        numba.set_num_threads(count)
    return int(numba.get_num_threads())


def _version() -> Any:
    from . import __version__

    return __version__
