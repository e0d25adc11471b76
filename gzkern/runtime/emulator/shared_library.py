"""A compiled file: its kernels, called with checked arguments. The structures mirror ``include/``."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import GzkernError

_Extent = ctypes.c_uint * 3


class Array(ctypes.Structure):
    """``emulation::Array``."""

    _fields_ = (("begin", ctypes.c_void_p), ("bytes", ctypes.c_size_t))


class Launch(ctypes.Structure):
    """``emulation::Launch``."""

    _fields_ = (
        ("grid", _Extent),
        ("block", _Extent),
        ("shared_bytes", ctypes.c_uint),
        ("order", ctypes.c_uint),
        ("seed", ctypes.c_uint),
        ("late_copies", ctypes.c_uint),
        ("workers", ctypes.c_uint),
        ("chosen", ctypes.POINTER(ctypes.c_ulonglong)),
        ("chosen_count", ctypes.c_ulonglong),
        ("arrays", ctypes.POINTER(Array)),
        ("array_count", ctypes.c_uint),
        ("memory", ctypes.c_void_p),
        ("arguments", ctypes.POINTER(ctypes.c_void_p)),
        ("message", ctypes.c_char * 512),
        ("has_failed", ctypes.c_uint),
    )


_MOST_CALLS, _MOST_SITES, _DEPTH = 16, 4096, 12


class TracedAccess(ctypes.Structure):
    """``emulation::Access``."""

    _fields_ = (
        ("path", ctypes.c_size_t * _DEPTH),
        ("array", ctypes.c_uint),
        ("kind", ctypes.c_uint),
        ("width", ctypes.c_uint),
        ("requests", ctypes.c_ulonglong),
        ("lanes", ctypes.c_ulonglong),
        ("bytes", ctypes.c_ulonglong),
        ("cost", ctypes.c_ulonglong),
        ("ideal", ctypes.c_ulonglong),
    )


class TracedCall(ctypes.Structure):
    """A warp collective, and the lanes that called it."""

    _fields_ = (("name", ctypes.c_char_p), ("lanes", ctypes.c_ulonglong))


class TracedLaunch(ctypes.Structure):
    """``emulation::Trace``."""

    _fields_ = (
        ("image", ctypes.c_size_t),
        ("blocks", ctypes.c_ulonglong),
        ("barriers", ctypes.c_ulonglong),
        ("multiply_adds", ctypes.c_ulonglong),
        ("loaded_sectors", ctypes.c_ulonglong),
        ("stored_sectors", ctypes.c_ulonglong),
        ("calls", TracedCall * _MOST_CALLS),
        ("count", ctypes.c_uint),
        ("accesses", ctypes.POINTER(TracedAccess) * _MOST_SITES),
    )


class _Entry(ctypes.Structure):
    """``emulation::Entry``."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("parameters", ctypes.c_char_p),
        ("most_threads", ctypes.c_uint),
        ("run", ctypes.CFUNCTYPE(None, ctypes.POINTER(Launch))),
    )


@dataclass(frozen=True)
class CompiledKernel:
    """An ``extern "C"`` function; ``parameters`` are codes such as ``Vu4``, a value, and ``Pf4``, a pointer."""

    name: str
    parameters: tuple[str, ...]
    most_threads: int
    run: Any

    def __call__(self, launch: Launch, arguments: Sequence[Any]) -> None:
        """Launch with these arguments; ``launch`` says all the rest, and afterwards whether it failed.

        Raises:
            GzkernError: number, kinds or types of the arguments differ from the kernel's parameters.
        """
        if len(arguments) != len(self.parameters):
            raise GzkernError(f"{self.name}: {len(arguments)} arguments, expected {len(self.parameters)}")
        values = [self._value(*pair) for pair in enumerate(arguments)]
        launch.arguments = (ctypes.c_void_p * len(values))(*map(ctypes.addressof, values))
        self.run(launch)

    def _value(self, position: int, argument: Any) -> Any:
        """The argument as C has it."""
        expected = self.parameters[position]
        if isinstance(argument, np.ndarray):
            got = f"P{_code(argument.dtype)}"
        elif isinstance(argument, np.generic):
            got = f"V{_code(argument.dtype)}"
        else:
            got = type(argument).__name__
        if got != expected and (expected, got[0]) != ("P?0", "P"):
            raise GzkernError(f"{self.name}: argument {position} is {_words(got)}, expected {_words(expected)}")
        if isinstance(argument, np.ndarray):
            return ctypes.c_void_p(argument.ctypes.data)
        return ctypes.create_string_buffer(argument.tobytes(), argument.itemsize)


class Library:
    """A shared library that ``compiler`` made."""

    def __init__(self, path: Path):
        self.path = path
        self._library = ctypes.CDLL(str(path))
        self.worker_bytes, self.worker_alignment = (ctypes.c_size_t * 2).in_dll(self._library, "emulation_worker")
        self.kernels: dict[str, CompiledKernel] = {}
        entries = ctypes.cast(self._library.emulation_kernels, ctypes.POINTER(_Entry))
        position = 0
        while (entry := entries[position]).name:
            codes = entry.parameters.decode()
            parameters = tuple(codes[i : i + 3] for i in range(0, len(codes), 3))
            name = entry.name.decode()
            self.kernels[name] = CompiledKernel(name, parameters, entry.most_threads, entry.run)
            position += 1

    @property
    def traced(self) -> TracedLaunch:
        """The trace of the last launch, of a library that was compiled to trace."""
        return TracedLaunch.in_dll(self._library, "emulation_trace")


def _code(dtype: np.dtype) -> str:
    """Kind and bytes of a number, such as f4."""
    return f"{dtype.kind}{dtype.itemsize}"


def _words(code: str) -> str:
    if code[1:] not in _NUMBERS:
        return "an array" if code == "P?0" else code
    return f"{'an array' if code[0] == 'P' else 'a scalar'} of {_NUMBERS[code[1:]]}"


_NUMBERS = {_code(np.dtype(letter)): np.dtype(letter).name for letter in "?bBhHiIqQefd"}
