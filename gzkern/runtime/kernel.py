"""Kernels and their launches: a function of a .cu file, the geometry of a launch, and the check of its arguments."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import GzkernError, InputError
from .backend import Backend

MOST_BLOCKS = (2**31 - 1, 65535, 65535)
"""Blocks of a grid along x, y and z."""

LONGEST_CHAIN = 4096
"""Additions one after the other in float32; longer sums are partial sums that are added in a fixed tree."""

_MOST_THREADS = 1024


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


def kernel(stem: str, part: str = "") -> Kernel:
    """The kernel ``<stem>_<part>`` of ``kernels/<stem>.cu``; a folder in the stem becomes the first word of the name.

    ``kernel("dense/forward", "naive")`` is ``dense_forward_naive`` of ``kernels/dense/forward.cu``.
    """
    return Kernel(stem, "_".join([*stem.split("/"), *([part] if part else [])]))


def choose(op: str, versions: Mapping[str, Kernel], version: str) -> Kernel:
    """The kernel of a version.

    Raises:
        InputError: there is no such version; names those that there are.
    """
    if version not in versions:
        raise InputError(f"{op}: version is {version!r}, expected {' or '.join(versions)}")
    return versions[version]


def extents(*values: int) -> tuple[np.uint32, ...]:
    """Sizes as kernels take them."""
    return tuple(np.uint32(value) for value in values)


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
