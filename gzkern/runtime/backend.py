"""Interfaces: the arrays of a device, the launches of one that runs kernels, the staging buffer that feeds it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

ALIGNMENT = 16
"""Bytes: the address of an array must be divisible by it, so that kernels may load four numbers at once."""


@dataclass(frozen=True)
class Limits:
    """Limits of a device, which decide on an algorithm and the size of its tile.

    Attributes:
        capability: compute capability, times ten.
        multiprocessors: their number.
        shared_bytes: shared memory that a block may have.
    """

    capability: int
    multiprocessors: int
    shared_bytes: int


Unit = tuple[str | Path, tuple[int, ...]]
"""A unit of compilation: a file and its tile, () for the file's own."""


class ArrayBackend(Protocol):
    """The arrays of a device."""

    name: str

    def empty(self, shape: tuple[int, ...], dtype: Any = np.float32) -> Any:
        """Allocate a C-contiguous array of undefined values."""

    def asarray(self, array: np.ndarray) -> Any:
        """A NumPy array as one of this device's."""

    def asnumpy(self, array: Any) -> np.ndarray:
        """One of this device's arrays as a NumPy array."""

    def write(self, array: Any, values: np.ndarray) -> None:
        """Write values of the host into one of this device's arrays."""

    def external(self, array: Any, name: str) -> Any:
        """Register an array that a captured step does not own; ``name`` stands in reports."""

    def range(self, name: str) -> AbstractContextManager[None]:
        """Give the launches within the name of an operation."""

    def describe(self) -> dict[str, Any]:
        """Facts that the bits of a result depend on, by name: the GPU, compilers."""

    def free_bytes(self) -> int:
        """Bytes of the device's memory that nobody uses."""


class Backend(ArrayBackend, Protocol):
    """A device that runs the kernels: a GPU, its emulation, or what captures the launches of a step."""

    @property
    def limits(self) -> Limits:
        """Limits of the device."""

    @property
    def home(self) -> Backend:
        """The backend itself; of one that captures, the backend that is to replay."""

    def get_function(self, file: str | Path, kernel: str, tile: tuple[int, ...] = ()) -> Callable[..., None]:
        """``function(grid, block, args, shared_mem)`` of an ``extern "C"`` kernel; compiles its file if need be."""

    def replay(self, calls: Sequence[Callable[[], None]], side_stream: Sequence[bool]) -> Callable[[], None]:
        """A function that makes all launches, as one CUDA graph on a GPU; ``side_stream`` marks those on a branch."""

    def staging_buffer(
        self, slots: int, blocks: int, arrays: Mapping[str, tuple[tuple[int, ...], Any]]
    ) -> StagingBuffer:
        """Allocate a :class:`StagingBuffer`: ``slots`` a block, ``blocks`` on the host, ``arrays`` of one slot."""

    def side_stream(self) -> AbstractContextManager[None]:
        """Put the launches within on a side stream of a captured step."""

    def __hash__(self) -> int:
        """Backends are keys of caches, by identity."""


class StagingBuffer(Protocol):
    """A stream of slots on its way to a device, in blocks: launches read one while the next is filled and copied.

    The device has room for two blocks, the host for as many as it likes to be ahead. Slot k of the stream lies in slot
    k mod (their number) on either side.
    """

    arrays: dict[str, Any]
    """Arrays of the device: (2 · slots, …), by name."""

    host: dict[str, np.ndarray]
    """Arrays of the host: (blocks · slots, …), by name; filled before a block is sent."""

    def send(self, block: int) -> None:
        """Begin to copy a block to the device, once the launches that read the one in its place are done."""

    def wait_sent(self, block: int) -> None:
        """Wait until a block that was sent has left the memory of the host, which may be written to then."""

    def enter(self, block: int) -> None:
        """Launches from here on read this block, once it has arrived, and no longer the one before."""

    def close(self) -> None:
        """Wait for what is on its way."""
