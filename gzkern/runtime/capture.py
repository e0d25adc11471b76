"""A step as a list of launches: captured without running anything, its memory laid out, then replayed as a whole.

A :class:`CapturingBackend` stands in for the backend while a step's Python runs: its arrays have a shape and no memory,
and it captures each launch. The launches that use an array tell when its memory may serve another, so that one block,
the arena, holds all arrays of a step. A replay costs one call of Python: a GPU replays a CUDA graph. Kernels read
numbers that change from step to step from arrays that outlive the step: :meth:`CapturingBackend.external`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from ..errors import GzkernError
from .backend import Backend, Limits, StagingBuffer
from .kernel import Geometry, Kernel

PAGE = 256
"""Bytes that the address of an array in the arena is a multiple of, as one that a GPU allocates."""


class Block:
    """Memory of one array and its views; ``array`` is that memory where it lies outside the arena."""

    def __init__(self, nbytes: int, name: str, array: Any = None):
        self.nbytes = nbytes
        self.name = name
        self.array = array


class Buffer:
    """An array of a captured step: a shape and a dtype without memory. Views share a block."""

    flags = SimpleNamespace(c_contiguous=True, writeable=True)

    def __init__(self, capturing: CapturingBackend, block: Block, shape: tuple[int, ...], dtype: Any, offset: int = 0):
        self.capturing = capturing
        self.block = block
        self.shape = tuple(int(extent) for extent in shape)
        self.dtype = np.dtype(dtype)
        self.offset = offset

    @property
    def ndim(self) -> int:
        """Number of extents."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of the elements."""
        return self.size * self.dtype.itemsize

    def reshape(self, *shape: Any) -> Buffer:
        """The same elements in another shape."""
        extents = shape[0] if isinstance(shape[0], tuple) else shape
        if math.prod(extents) != self.size:
            raise GzkernError(f"an array of shape {self.shape} cannot become {extents}")
        return Buffer(self.capturing, self.block, extents, self.dtype, self.offset)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: int) -> Buffer:
        inner = self.shape[1:]
        bytes_each = math.prod(inner) * self.dtype.itemsize
        return Buffer(
            self.capturing, self.block, inner, self.dtype, self.offset + range(self.shape[0])[index] * bytes_each
        )


@dataclass(frozen=True)
class Launch:
    """A captured launch of a kernel; ``arguments`` are buffers and NumPy scalars, see ``Backend.side_stream``."""

    operation: str
    kernel: Kernel
    geometry: Geometry
    arguments: tuple[Any, ...]
    side_stream: bool = False

    def blocks(self) -> Iterator[Block]:
        """The memory that it touches."""
        return (argument.block for argument in self.arguments if isinstance(argument, Buffer))


class _RunsNothing:
    """The part of a backend that needs values, where nothing runs."""

    name = "a backend that runs nothing"

    def asnumpy(self, array: Any) -> np.ndarray:
        """Refuse to read values.

        Raises:
            GzkernError: always.
        """
        raise GzkernError(f"{self.name} has no values to read")

    def write(self, array: Any, values: np.ndarray) -> None:
        """Refuse to write values, as :meth:`asnumpy`."""
        raise GzkernError(f"{self.name} has no values to write")

    def replay(self, calls: Sequence[Callable[[], None]], side_stream: Sequence[bool]) -> Callable[[], None]:
        """Refuse to launch, as :meth:`asnumpy`."""
        raise GzkernError(f"{self.name} launches nothing")

    def free_bytes(self) -> int:
        """Refuse to tell, as :meth:`asnumpy`."""
        raise GzkernError(f"{self.name} has no memory")


class CapturingBackend(_RunsNothing):
    """A backend that captures the launches of a step while its Python runs.

    Args:
        target: the backend that is to replay them.
    """

    name = "a step that is captured"

    def __init__(self, target: Backend):
        self.target = target
        self.limits = target.limits
        self.launches: list[Launch] = []
        self._operation = ""
        self._side_stream = False
        self._external: dict[int, Buffer] = {}

    @property
    def home(self) -> Backend:
        """The target."""
        return self.target

    def finish(self) -> tuple[Launch, ...]:
        """Return all launches, and forget them and the arrays that they use."""
        launches, self.launches, self._external = tuple(self.launches), [], {}
        return launches

    def external(self, array: Any, name: str) -> Buffer:
        """Register an array of the target that outlives the step; always the same buffer."""
        if id(array) not in self._external:
            block = Block(array.nbytes, name, array)
            self._external[id(array)] = Buffer(self, block, array.shape, array.dtype)
        return self._external[id(array)]

    def empty(self, shape: tuple[int, ...], dtype: Any = np.float32) -> Buffer:
        """An array of the arena."""
        size = math.prod(int(extent) for extent in shape)
        return Buffer(self, Block(size * np.dtype(dtype).itemsize, self._operation), shape, dtype)

    def asarray(self, array: np.ndarray) -> Buffer:
        """A constant, placed on the target now."""
        return self.external(self.target.asarray(array), "constants")

    def staging_buffer(
        self, slots: int, blocks: int, arrays: Mapping[str, tuple[tuple[int, ...], Any]]
    ) -> StagingBuffer:
        """The target's: it outlives the step."""
        return self.target.staging_buffer(slots, blocks, arrays)

    def describe(self) -> dict[str, Any]:
        """The target's."""
        return self.target.describe()

    def get_function(self, file: str | Path, kernel: str, tile: tuple[int, ...] = ()) -> Callable[..., None]:
        """A function that captures a launch."""

        def capture(grid: tuple[int, ...], block: tuple[int, ...], args: Sequence[Any], shared_mem: int = 0) -> None:
            geometry = Geometry(tuple(grid), tuple(block), shared_mem)
            launch = Launch(self._operation, Kernel(file, kernel, tile), geometry, tuple(args), self._side_stream)
            self.launches.append(launch)

        return capture

    @contextmanager
    def range(self, name: str) -> Iterator[None]:
        """Give the launches within the name of an operation."""
        outer, self._operation = self._operation, name
        try:
            yield
        finally:
            self._operation = outer

    @contextmanager
    def side_stream(self) -> Iterator[None]:
        """Put the launches within on the side stream."""
        outer, self._side_stream = self._side_stream, True
        try:
            yield
        finally:
            self._side_stream = outer


@dataclass(frozen=True)
class Place:
    """The place of a block in the arena, and the first and last launch that use it."""

    block: Block
    first: int
    last: int
    offset: int = 0

    @property
    def end(self) -> int:
        """The first byte after it, rounded up."""
        return self.offset + -(-max(self.block.nbytes, 1) // PAGE) * PAGE

    def meets(self, other: Place) -> bool:
        """Tell whether both are in use at some time."""
        return self.first <= other.last and other.first <= self.last


def lay_out(launches: Sequence[Launch], outputs: Sequence[Buffer] = ()) -> list[Place]:
    """Places in the arena for all that launches make, in the order of first use.

    A block lives from the first to the last launch that uses it: to the end of the step if one of them is on the side
    stream, for it is not known when that ends, or if the block is an output. The largest are placed first, each at the
    lowest address where it meets nothing.
    """
    end = len(launches)
    uses: dict[Block, list[int]] = {}
    for index, launch in enumerate(launches):
        for block in launch.blocks():
            uses.setdefault(block, []).extend([index, end] if launch.side_stream else [index])
    for buffer in outputs:
        uses.setdefault(buffer.block, [0]).append(end)
    lives = [Place(block, min(at), max(at)) for block, at in uses.items() if block.array is None]
    placed: list[Place] = []
    for life in sorted(lives, key=lambda each: -each.block.nbytes):
        offset = 0
        for other in sorted(filter(life.meets, placed), key=lambda each: each.offset):
            if replace(life, offset=offset).end <= other.offset:
                break
            offset = max(offset, other.end)
        placed.append(replace(life, offset=offset))
    return sorted(placed, key=lambda each: (each.first, each.offset))


def arena_bytes(places: Sequence[Place]) -> int:
    """Size of the arena."""
    return max((place.end for place in places), default=0)


class Program:
    """A captured step that can be replayed.

    Args:
        capturing: has all launches; it is spent.
        outputs: buffers by name to keep; arrays of the same names are in :attr:`outputs`, valid after :meth:`play`.

    Raises:
        GzkernError: a kernel does not compile, or there is not memory enough for the arena.
    """

    def __init__(self, capturing: CapturingBackend, outputs: dict[str, Buffer] | None = None):
        outputs = outputs or {}
        self.launches = capturing.finish()
        self.places = lay_out(self.launches, list(outputs.values()))
        backend = capturing.target
        self._offsets = {place.block: place.offset for place in self.places}
        self._arena = backend.empty((arena_bytes(self.places),), np.uint8)
        self.outputs = {name: self._array(buffer) for name, buffer in outputs.items()}
        self.calls = [self._bound(backend, launch) for launch in self.launches]
        """Each launch by itself, in order: for a look at its time."""
        self.play = backend.replay(self.calls, [launch.side_stream for launch in self.launches])
        """Launch all of them."""

    def _array(self, buffer: Buffer) -> Any:
        base, offset = buffer.block.array, buffer.offset
        if base is None:
            base, offset = self._arena, offset + self._offsets[buffer.block]
        flat = base.reshape(-1).view(np.uint8)
        return flat[offset : offset + buffer.nbytes].view(buffer.dtype).reshape(buffer.shape)

    def _bound(self, backend: Backend, launch: Launch) -> Callable[[], None]:
        function = backend.get_function(launch.kernel.file, launch.kernel.name, launch.kernel.tile)
        arguments = tuple(self._array(a) if isinstance(a, Buffer) else a for a in launch.arguments)
        geometry = launch.geometry
        return lambda: function(geometry.grid, geometry.block, arguments, geometry.shared)


class ShapeOnlyBackend(_RunsNothing):
    """A device of which only the limits are known: a step captured on it can be laid out, and not replayed."""

    name = "a device of which only the limits are known"

    def __init__(self, limits: Limits):
        self.limits = limits

    @property
    def home(self) -> ShapeOnlyBackend:
        """Itself."""
        return self

    def empty(self, shape: tuple[int, ...], dtype: Any = np.float32) -> np.ndarray:
        """An array of this shape that takes no memory."""
        return np.broadcast_to(np.zeros((), dtype), shape)

    def asarray(self, array: np.ndarray) -> np.ndarray:
        """The array itself; one that nobody reads takes no memory."""
        return array

    def staging_buffer(
        self, slots: int, blocks: int, arrays: Mapping[str, tuple[tuple[int, ...], Any]]
    ) -> StagingBuffer:
        """Arrays of a staging buffer's shapes, on the device alone, that take no memory."""
        return ShapeOnlyStagingBuffer(
            {name: self.empty((2 * slots, *shape), dtype) for name, (shape, dtype) in arrays.items()}
        )

    def external(self, array: Any, name: str) -> Any:
        """The array itself."""
        return array

    def describe(self) -> dict[str, Any]:
        """Nothing."""
        return {}

    def get_function(self, file: str | Path, kernel: str, tile: tuple[int, ...] = ()) -> Callable[..., None]:
        """Refuse to launch, as :meth:`replay`."""
        raise GzkernError(f"{self.name} launches nothing")

    def range(self, name: str) -> AbstractContextManager[None]:
        """Names have no use here."""
        return nullcontext()

    def side_stream(self) -> AbstractContextManager[None]:
        """Nothing is launched."""
        return nullcontext()


class ShapeOnlyStagingBuffer:
    """The arrays of a staging buffer on a :class:`ShapeOnlyBackend`: nothing is sent."""

    def __init__(self, arrays: dict[str, np.ndarray]):
        self.arrays: dict[str, Any] = arrays
        self.host: dict[str, np.ndarray] = {}

    def send(self, block: int) -> None:
        """Nothing to send."""

    def wait_sent(self, block: int) -> None:
        """Nothing to wait for."""

    def enter(self, block: int) -> None:
        """Nothing to read."""

    def close(self) -> None:
        """Nothing to end."""
