"""Launches: a kernel, its geometry and its arguments, checked, on the device that the arrays live on."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import astuple, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ..errors import GzkernError, InputError

MOST_ELEMENTS = 2**31 - 1
"""Elements of one array; kernels count them in 32 bits."""

ALIGNMENT = 16
"""Bytes: what the address of an array must be divisible by, so that kernels may load four numbers at once."""

MOST_BLOCKS = (2**31 - 1, 65535, 65535)
"""Of a grid along x, y and z."""

_MOST_THREADS = 1024


@dataclass(frozen=True)
class Limits:
    """What the choice of a kernel and the size of its tile depend on.

    Attributes:
        capability: compute capability, times ten.
        multiprocessors: that run blocks at once.
        shared_bytes: of shared memory that a block may have.
    """

    capability: int
    multiprocessors: int
    shared_bytes: int


Unit = tuple[str | Path, tuple[int, ...]]
"""What is compiled at once: a file and its tile, () for the file's own."""


class Backend(Protocol):
    """A device that runs the kernels: a GPU (``cuda.device``), or its emulation (``gzkern.emulator``)."""

    name: str

    @property
    def limits(self) -> Limits:
        """Of the device."""

    @property
    def home(self) -> Backend:
        """The device itself; of a recording, the one that it is made for."""

    def get_function(self, file: str | Path, kernel: str, tile: tuple[int, ...] = ()) -> Callable[..., None]:
        """``function(grid, block, args, shared_mem)`` of an ``extern "C"`` kernel; compiles its file if need be."""

    def empty(self, shape: tuple[int, ...], dtype: Any = np.float32) -> Any:
        """A C-contiguous array of undefined values."""

    def asarray(self, array: np.ndarray) -> Any:
        """A NumPy array as one of this device's."""

    def asnumpy(self, array: Any) -> np.ndarray:
        """One of this device's arrays as a NumPy array."""

    def write(self, array: Any, values: np.ndarray) -> None:
        """Write values of the host into one of this device's arrays."""

    def replay(self, calls: Sequence[Callable[[], None]], aside: Sequence[bool]) -> Callable[[], None]:
        """What makes all launches, in one go where the device can; some of them may run beside those that follow."""

    def ring(self, slots: int, blocks: int, arrays: Mapping[str, tuple[tuple[int, ...], Any]]) -> Ring:
        """A ring of blocks of so many slots, ``blocks`` of them on the host; ``arrays``: of a slot, by name."""

    def describe(self) -> dict[str, Any]:
        """What the bits of a result depend on: the GPU, compilers; text by name."""

    def free_bytes(self) -> int:
        """Memory of the device that nobody uses."""

    def outside(self, array: Any, name: str) -> Any:
        """An array that outlives a recorded step, as the recording knows it, by this name in reports."""

    def range(self, name: str) -> AbstractContextManager[None]:
        """What is launched within belongs to the operation of this name."""

    def aside(self) -> AbstractContextManager[None]:
        """What is launched within may run beside what is launched after it, where a step is recorded."""

    def __hash__(self) -> int:
        """Backends are keys of caches, by identity."""


class Ring(Protocol):
    """A stream of slots on its way to a device, in blocks: launches read one while the next is filled and copied.

    The device has room for two blocks, the host for as many as it likes to be ahead. Slot k of the stream lies in slot
    k mod (their number) on either side.
    """

    arrays: dict[str, Any]
    """Of the device: (2 · slots, …), by name."""

    host: dict[str, np.ndarray]
    """Of the host: (blocks · slots, …), by name. What is written to a block's slots before it is sent arrives."""

    def send(self, block: int) -> None:
        """Begin to copy a block to the device, once the launches that read the one in its place are done."""

    def wait_sent(self, block: int) -> None:
        """Wait until a block that was sent has left the memory of the host, which may be written to then."""

    def enter(self, block: int) -> None:
        """Launches from here on read this block, once it has arrived, and no longer the one before."""

    def close(self) -> None:
        """Wait for what is on its way."""


@dataclass(frozen=True)
class Geometry:
    """Blocks of a grid and threads of a block along x, y, z, and bytes of dynamic shared memory a block."""

    grid: tuple[int, ...]
    block: tuple[int, ...]
    shared: int = 0


@dataclass(frozen=True)
class Kernel:
    """An ``extern "C"`` function of ``kernels/<file>.cu``, with the template arguments that the file calls TILE."""

    file: str | Path
    name: str
    tile: tuple[int, ...] = ()

    def of(self, tile: Any) -> Kernel:
        """The kernel compiled for a tile: a dataclass of integers, in the order of the template's parameters."""
        return replace(self, tile=tuple(int(value) for value in astuple(tile)))

    def __call__(self, backend: Backend, geometry: Geometry, *arguments: Any) -> None:
        """Launch; a grid without blocks is no launch.

        Args:
            backend: where.
            geometry: of the launch.
            arguments: C-contiguous arrays of the backend, and NumPy scalars of the kernel's types. A Python number
                has no C type, and a strided array would be read as if it were contiguous: both are refused.
        """
        if 0 in geometry.grid:
            return
        self._check(geometry, arguments)
        function = backend.get_function(self.file, self.name, self.tile)
        function(geometry.grid, geometry.block, arguments, geometry.shared)

    def _check(self, geometry: Geometry, arguments: Sequence[Any]) -> None:
        for axis, (blocks, most) in enumerate(zip(geometry.grid, MOST_BLOCKS, strict=False)):
            if not 0 < blocks <= most:
                raise InputError(f"{self.name}: {blocks} blocks along {'xyz'[axis]}, expected 1 to {most}; "
                                 "take smaller arrays")  # fmt: skip
        if not 0 < math.prod(geometry.block) <= _MOST_THREADS:
            raise GzkernError(f"{self.name}: a block of {geometry.block} threads, expected 1 to {_MOST_THREADS}")
        for position, argument in enumerate(arguments):
            if isinstance(argument, np.generic):
                continue
            flags = getattr(argument, "flags", None)
            if flags is None or not flags.c_contiguous:
                kind = type(argument).__name__ if flags is None else f"an array of strides {argument.strides}"
                raise GzkernError(
                    f"{self.name}: argument {position} is {kind}, expected a NumPy scalar or a C-contiguous array"
                )


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
            raise InputError(
                f"{op}: {name} has dtype {array.dtype}, expected {expected}; the kernels compute in float32"
            )
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


def choose(op: str, versions: Mapping[str, Kernel], version: str) -> Kernel:
    """The kernel of a version.

    Raises:
        InputError: there is no such version; names those that there are.
    """
    if version not in versions:
        raise InputError(f"{op}: version is {version!r}, expected {' or '.join(versions)}")
    return versions[version]


def require_writable(op: str, **arrays: Any) -> None:
    """Refuse an array that is to be updated in place and must not be.

    Raises:
        InputError: names the operation and the argument.
    """
    for name, array in arrays.items():
        if not getattr(array.flags, "writeable", True):
            raise InputError(f"{op}: {name} is updated in place, and is read-only; copy it first")


def require_size(op: str, name: str, shape: tuple[int, ...]) -> None:
    """Refuse a result of 2³¹ elements or more, before it is allocated.

    Raises:
        InputError: names operation and result.
    """
    if math.prod(shape) > MOST_ELEMENTS:
        raise InputError(f"{op}: {name} {shape} would have 2^31 elements or more; take a smaller batch")


def extents(*values: int) -> tuple[np.uint32, ...]:
    """Sizes as kernels take them."""
    return tuple(np.uint32(value) for value in values)


def number(backend: Backend, value: Any, dtype: Any) -> Any:
    """What kernels read when they run: an array (1,) of the device as it is, a number as such an array.

    Raises:
        InputError: neither, or an array of another shape, dtype or device.
    """
    if isinstance(value, int | float | np.generic):
        return backend.asarray(np.full(1, value, dtype))
    if getattr(value, "shape", None) != (1,) or backend_of("a number", dtype, read=value) is not backend:
        raise InputError(f"expected a number, or an array (1,) of {np.dtype(dtype)} on the device, got {value!r}")
    return value


def by_fours(op: str, version: str | None, what: str, count: int, otherwise: str) -> str:
    """``version``; where it is None, "vectorised" if ``count`` is a multiple of 4, else ``otherwise``.

    Raises:
        InputError: version is "vectorised", and the count no multiple of 4.
    """
    if version == "vectorised" and count % 4:
        raise InputError(f"{op}: version 'vectorised' needs a multiple of 4 {what}, got {count}")
    return version or (otherwise if count % 4 else "vectorised")


def elementwise(threads: int, block: int = 256) -> Geometry:
    """The geometry of a kernel with one thread an item along x."""
    return Geometry((ceil_div(threads, block),), (block,))


def ceil_div(a: int, b: int) -> int:
    """⌈a / b⌉."""
    return -(-a // b)


def padded(size: int, rest: int, period: int) -> int:
    """The least number from ``size`` on that is ``rest`` modulo ``period``."""
    return size + (rest - size) % period


def _home(array: Any) -> Any:
    """Where an array lives: "emulated" (NumPy), "cuda:<number>" (CuPy), its recorder, or None if it is none of them."""
    if isinstance(array, np.ndarray):
        return "emulated"
    if type(array).__module__.partition(".")[0] == "cupy" and hasattr(array, "device"):
        return f"cuda:{array.device.id}"
    return getattr(array, "recorder", None)


def _address(array: Any) -> int:
    if isinstance(array, np.ndarray):
        return array.__array_interface__["data"][0]
    return array.offset if hasattr(array, "recorder") else array.data.ptr


@cache
def _backend(home: str) -> Backend:
    if home == "emulated":
        from ..emulator import backend

        return backend
    from .device import backend as cuda

    return cuda(int(home.partition(":")[2]))
