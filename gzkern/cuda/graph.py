"""A step as a list of launches: recorded without running anything, its memory laid out, then replayed as a whole.

A :class:`Recorder` stands in for the device while a step's Python runs: its arrays have a shape and no memory, its
launches are written down. Which launches use an array tells when its memory may serve another, so that one block, the
arena, holds all that a step makes. Replaying costs no Python but a call: a GPU replays a CUDA graph. What changes from
step to step, kernels read from arrays that outlive the step: :meth:`Recorder.outside`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from ..errors import GzkernError
from .launch import Backend, Geometry, Kernel, Limits

PAGE = 256
"""Bytes that the address of an array in the arena is a multiple of, as one that a GPU allocates."""


class Block:
    """Memory of one array and its views: ``array`` where it lies outside the arena."""

    def __init__(self, nbytes: int, name: str, array: Any = None):
        self.nbytes = nbytes
        self.name = name
        self.array = array


class Buffer:
    """An array of a recording: all of an array but its memory. Views share a block."""

    flags = SimpleNamespace(c_contiguous=True, writeable=True)

    def __init__(self, recorder: Recorder, block: Block, shape: tuple[int, ...], dtype: Any, offset: int = 0):
        self.recorder = recorder
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
        return Buffer(self.recorder, self.block, extents, self.dtype, self.offset)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: int) -> Buffer:
        inner = self.shape[1:]
        bytes_each = math.prod(inner) * self.dtype.itemsize
        return Buffer(
            self.recorder, self.block, inner, self.dtype, self.offset + range(self.shape[0])[index] * bytes_each
        )


@dataclass(frozen=True)
class Launch:
    """One kernel of a recording; ``arguments`` are buffers and NumPy scalars, ``aside`` as ``Backend.aside``."""

    operation: str
    kernel: Kernel
    geometry: Geometry
    arguments: tuple[Any, ...]
    aside: bool = False

    def blocks(self) -> Iterator[Block]:
        """The memory that it touches."""
        return (argument.block for argument in self.arguments if isinstance(argument, Buffer))


class Recorder:
    """What stands in for a backend while a step's Python runs, and writes its launches down.

    ``target`` is the backend that is to replay them. Of a backend it has what operations ask for.
    """

    name = "a recording"

    def __init__(self, target: Backend):
        self.target = target
        self.limits = target.limits
        self.launches: list[Launch] = []
        self._operation = ""
        self._aside = False
        self._outside: dict[int, Buffer] = {}

    @property
    def home(self) -> Backend:
        """The target."""
        return self.target

    def finish(self) -> tuple[Launch, ...]:
        """All launches; the recorder forgets them, and the arrays that they use."""
        launches, self.launches, self._outside = tuple(self.launches), [], {}
        return launches

    def outside(self, array: Any, name: str) -> Buffer:
        """An array of the target that outlives the step; always the same buffer."""
        if id(array) not in self._outside:
            block = Block(array.nbytes, name, array)
            self._outside[id(array)] = Buffer(self, block, array.shape, array.dtype)
        return self._outside[id(array)]

    def empty(self, shape: tuple[int, ...], dtype: Any = np.float32) -> Buffer:
        """An array of the arena."""
        size = math.prod(int(extent) for extent in shape)
        return Buffer(self, Block(size * np.dtype(dtype).itemsize, self._operation), shape, dtype)

    def asarray(self, array: np.ndarray) -> Buffer:
        """A constant, placed on the target now."""
        return self.outside(self.target.asarray(array), "constants")

    def asnumpy(self, array: Any) -> np.ndarray:
        """Not while recording: nothing has run.

        Raises:
            GzkernError: always.
        """
        raise GzkernError("a step that is recorded cannot look at its values")

    def write(self, array: Any, values: np.ndarray) -> None:
        """Not while recording, as :meth:`asnumpy`."""
        raise GzkernError("a step that is recorded cannot be written into")

    def describe(self) -> dict[str, Any]:
        """The target's."""
        return self.target.describe()

    def get_function(self, file: str | Path, kernel: str, tile: tuple[int, ...] = ()) -> Callable[..., None]:
        """What writes a launch down."""

        def write(grid: tuple[int, ...], block: tuple[int, ...], args: Sequence[Any], shared_mem: int = 0) -> None:
            geometry = Geometry(tuple(grid), tuple(block), shared_mem)
            launch = Launch(self._operation, Kernel(file, kernel, tile), geometry, tuple(args), self._aside)
            self.launches.append(launch)

        return write

    @contextmanager
    def range(self, name: str) -> Iterator[None]:
        """Launches within are of this operation."""
        outer, self._operation = self._operation, name
        try:
            yield
        finally:
            self._operation = outer

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Launches within go beside those that follow."""
        outer, self._aside = self._aside, True
        try:
            yield
        finally:
            self._aside = outer


@dataclass(frozen=True)
class Place:
    """Where a block lies in the arena, and the first and last launch that use it."""

    block: Block
    first: int
    last: int
    offset: int = 0

    @property
    def end(self) -> int:
        """The first byte after it, rounded up."""
        return self.offset + -(-max(self.block.nbytes, 1) // PAGE) * PAGE

    def meets(self, other: Place) -> bool:
        """Whether both are in use at some time."""
        return self.first <= other.last and other.first <= self.last


def lay_out(launches: Sequence[Launch], kept: Sequence[Buffer] = ()) -> list[Place]:
    """Places in the arena for all that launches make, in the order of first use.

    A block lives from the first to the last launch that uses it: to the end of the step if one of them goes aside, for
    it is not known when that is over, or if the block is kept. The largest are placed first, each at the lowest address
    where it meets nothing.
    """
    end = len(launches)
    uses: dict[Block, list[int]] = {}
    for index, launch in enumerate(launches):
        for block in launch.blocks():
            uses.setdefault(block, []).extend([index, end] if launch.aside else [index])
    for buffer in kept:
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
    """A recording that can be replayed.

    Args:
        recorder: with all launches; it is spent.
        outputs: buffers by name to keep; arrays of the same names are in :attr:`outputs`, valid after :meth:`play`.

    Raises:
        GzkernError: a kernel does not compile, or there is not memory enough for the arena.
    """

    def __init__(self, recorder: Recorder, outputs: dict[str, Buffer] | None = None):
        kept = outputs or {}
        self.launches = recorder.finish()
        self.places = lay_out(self.launches, list(kept.values()))
        backend = recorder.target
        self._offsets = {place.block: place.offset for place in self.places}
        self._arena = backend.empty((arena_bytes(self.places),), np.uint8)
        self.outputs = {name: self._array(buffer) for name, buffer in kept.items()}
        self.calls = [self._bound(backend, launch) for launch in self.launches]
        """Each launch by itself, in order: for a look at its time."""
        self.play = backend.replay(self.calls, [launch.aside for launch in self.launches])
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


class Blueprint:
    """A device of which only the limits are known: what is recorded on it can be laid out, and not replayed."""

    name = "a blueprint"

    def __init__(self, limits: Limits):
        self.limits = limits

    def asarray(self, array: np.ndarray) -> np.ndarray:
        """The array itself; one that nobody reads takes no memory."""
        return array

    def ring(self, slots: int, blocks: int, arrays: Mapping[str, tuple[tuple[int, ...], Any]]) -> SimpleNamespace:
        """Arrays of the shapes of a ring's, that take no memory."""
        shapes = {name: ((2 * slots, *shape), np.dtype(dtype)) for name, (shape, dtype) in arrays.items()}
        return SimpleNamespace(
            arrays={name: np.broadcast_to(np.zeros((), dtype), shape) for name, (shape, dtype) in shapes.items()}
        )

    @property
    def home(self) -> Blueprint:
        """Itself."""
        return self

    def outside(self, array: Any, name: str) -> Any:
        """The array itself."""
        return array
