"""A compiled file: its kernels, called with checked arguments. The structures mirror ``include/``."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import GzkernError

_Extent = ctypes.c_uint * 3


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
        ("memory", ctypes.c_void_p),
        ("arguments", ctypes.POINTER(ctypes.c_void_p)),
        ("message", ctypes.c_char * 512),
        ("failed", ctypes.c_bool),
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

    def pack(self, arguments: Sequence[Any]) -> Any:
        """What the kernel reads its parameters from: an address for each.

        Raises:
            GzkernError: number, kinds or types differ from the kernel's parameters.
        """
        if len(arguments) != len(self.parameters):
            raise GzkernError(f"{self.name}: {len(arguments)} arguments, expected {len(self.parameters)}")
        values = [self._value(*pair) for pair in enumerate(arguments)]
        packed = (ctypes.c_void_p * len(values))(*(ctypes.addressof(value) for value in values))
        packed.values = values  # type: ignore[attr-defined]  # live as long
        return packed

    def _value(self, position: int, argument: Any) -> Any:
        expected = self.parameters[position]
        if isinstance(argument, np.ndarray):
            got, value = f"P{_code(argument.dtype)}", ctypes.c_void_p(argument.ctypes.data)
        elif isinstance(argument, np.generic):
            got, value = f"V{_code(argument.dtype)}", ctypes.create_string_buffer(argument.tobytes(), 8)
        else:
            raise GzkernError(
                f"{self.name}: argument {position} is {type(argument).__name__}, expected a NumPy array or scalar"
            )
        if got != expected and not (expected == "P?0" and got[0] == "P"):
            raise GzkernError(f"{self.name}: argument {position} is {_words(got)}, expected {_words(expected)}")
        return value


class Library:
    """A shared library that ``compiler`` made."""

    def __init__(self, path: Path):
        self._library = ctypes.CDLL(str(path))
        self.worker_bytes, self.worker_alignment = (ctypes.c_size_t * 2).in_dll(self._library, "emulation_worker_bytes")
        self.kernels: dict[str, CompiledKernel] = {}
        entries = ctypes.cast(self._library.emulation_kernels, ctypes.POINTER(_Entry))
        position = 0
        while (entry := entries[position]).name:
            codes = entry.parameters.decode()
            parameters = tuple(codes[i : i + 3] for i in range(0, len(codes), 3))
            name = entry.name.decode()
            self.kernels[name] = CompiledKernel(name, parameters, entry.most_threads, entry.run)
            position += 1


def _code(dtype: np.dtype) -> str:
    """Kind and bytes of a number, such as f4."""
    return f"{dtype.kind}{dtype.itemsize}"


def _words(code: str) -> str:
    what = "an array" if code[0] == "P" else "a scalar"
    return what if code[1] == "?" else f"{what} of {np.dtype('?' if code[1] == 'b' else code[1:])}"
