"""Arrays of the kernel devices: which device they live on, and whether kernels can read them."""

from __future__ import annotations

import math
from collections.abc import Collection
from functools import cache
from typing import Any

import numpy as np

from ..errors import InputError
from .backend import ALIGNMENT, Backend

MOST_ELEMENTS = 2**31 - 1
"""Elements of one array; kernels count them in 32 bits."""


def backend_of(op: str, dtype: Any = np.float32, *, large: Collection[str] = (), **arrays: Any) -> Backend:
    """The device of ``arrays``, all C-contiguous, with fewer than 2³¹ elements and of the expected dtype.

    Args:
        op: named in messages.
        dtype: of all arrays; or a dict of the dtypes of those that are not float32, by name.
        large: names of arrays that may have more elements, as the kernel counts them in 64 bits.
        arrays: at least one.

    Raises:
        InputError: names the operation, the argument, what was expected and what came.
    """
    dtypes = dtype if isinstance(dtype, dict) else dict.fromkeys(arrays, dtype)
    homes = {}
    for name, array in arrays.items():
        home = homes[name] = _home(array)
        if home is None:
            raise InputError(f"{op}: {name} is {type(array).__name__}, expected a NumPy or a CuPy array")
        expected = np.dtype(dtypes.get(name, np.float32))
        if array.dtype != expected:
            raise InputError(f"{op}: {name} has dtype {array.dtype}, expected {expected}")
        if array.size > MOST_ELEMENTS and name not in large:
            raise InputError(f"{op}: {name} has {array.size} elements, expected fewer than 2^31; take a smaller batch")
        if not array.flags.c_contiguous:
            raise InputError(f"{op}: {name} has strides {array.strides}, expected a C-contiguous array; copy it first")
        if array.size and _address(array) % ALIGNMENT:
            raise InputError(
                f"{op}: {name} is a view that begins at an address not divisible by {ALIGNMENT}, as loads of four "
                "numbers need; copy it first"
            )
    if len(set(homes.values())) != 1:
        got = ", ".join(f"{name} on {getattr(home, 'name', home)}" for name, home in homes.items())
        raise InputError(f"{op}: expected all arrays on one device, got {got}")
    home = next(iter(homes.values()))
    return _backend(home) if isinstance(home, str) else home


def require_size(op: str, name: str, shape: tuple[int, ...]) -> None:
    """Refuse a result of 2³¹ elements or more, before it is allocated.

    Raises:
        InputError: names operation and result.
    """
    if math.prod(shape) > MOST_ELEMENTS:
        raise InputError(f"{op}: {name} {shape} would have 2^31 elements or more; take a smaller batch")


def number(backend: Backend, value: Any, dtype: Any) -> Any:
    """A number as an array (1,) of the device, which kernels read when they run; such an array as it is.

    Raises:
        InputError: neither, or an array of another shape, dtype or device.
    """
    if isinstance(value, int | float | np.generic):
        return backend.asarray(np.full(1, value, dtype))
    if getattr(value, "shape", None) != (1,) or backend_of("a number", dtype, read=value) is not backend:
        raise InputError(f"expected a number, or an array (1,) of {np.dtype(dtype)} on the device, got {value!r}")
    return value


def _home(array: Any) -> Any:
    """The home of an array: "emulated" (NumPy), "cuda:<number>" (CuPy), the backend that captures, or None."""
    if isinstance(array, np.ndarray):
        return "emulated"
    if type(array).__module__.partition(".")[0] == "cupy" and hasattr(array, "device"):
        return f"cuda:{array.device.id}"
    return getattr(array, "capturing", None)


def _address(array: Any) -> int:
    if isinstance(array, np.ndarray):
        return array.__array_interface__["data"][0]
    return array.offset if hasattr(array, "capturing") else array.data.ptr


@cache
def _backend(home: str) -> Backend:
    if home == "emulated":
        from .emulator import backend

        return backend
    from .cuda_backend import backend as cuda

    return cuda(int(home.partition(":")[2]))
