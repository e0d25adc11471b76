"""Memory traces of launches in mode "trace", line by line; ``include/trace.hpp`` says what is counted."""

from __future__ import annotations

import math
import subprocess
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import InputError
from ..kernel import Geometry, Kernel
from .shared_library import Library

_KINDS = "load", "store", "copy", "atomic"
_SHARED = 2**32 - 1


@dataclass(frozen=True)
class Access:
    """Accesses of the warps at one line.

    Attributes:
        where: the lines that lead there, ``file:line``, the kernel's own first.
        space: "global" or "shared".
        argument: position of the array among the kernel's arguments; None in shared memory.
        kind: "load", "store", "atomic", or "copy" for either end of an asynchronous copy.
        width: bytes that a lane asks for at once.
        requests: of warps.
        lanes: of all requests together.
        bytes: that they moved.
        cost: sectors of 32 bytes, or wavefronts of shared memory.
        ideal: the least cost of requests for as many different bytes, or of their width.
    """

    where: tuple[str, ...]
    space: str
    argument: int | None
    kind: str
    width: int
    requests: int
    lanes: int
    bytes: int
    cost: int
    ideal: int

    @property
    def excess(self) -> int:
        """Sectors or wavefronts that a better order of addresses would save."""
        return self.cost - self.ideal


@dataclass(frozen=True)
class LaunchTrace:
    """One launch.

    Attributes:
        kernel: of the launch.
        geometry: of the launch.
        arguments: shape and dtype of an array, and the value of a scalar.
        blocks: that were run; all numbers are of these.
        barriers: of all blocks together.
        multiply_adds: calls of ``fmaf`` by all threads.
        calls: lanes that called a warp collective, by its name.
        loaded_sectors: of global memory, each counted once a block.
        stored_sectors: likewise.
        accesses: by line, in the order of their first turn.
    """

    kernel: Kernel
    geometry: Geometry
    arguments: tuple[Any, ...]
    blocks: int
    barriers: int
    multiply_adds: int
    calls: dict[str, int]
    loaded_sectors: int
    stored_sectors: int
    accesses: tuple[Access, ...]

    def array_bytes(self, argument: int) -> int:
        """Bytes of the array at a position among the arguments."""
        shape, dtype = self.arguments[argument]
        return math.prod(shape) * np.dtype(dtype).itemsize

    def total(self, what: str, space: str, *kinds: str) -> int:
        """The sum of an attribute of the accesses to a space, of some kinds or of all."""
        chosen = (each for each in self.accesses if each.space == space and (not kinds or each.kind in kinds))
        return sum(getattr(each, what) for each in chosen)


def spread(count: int, blocks: int) -> list[int]:
    """So many different blocks of a grid, spread over it by the golden ratio, so that no axis is met in step."""
    chosen: dict[int, None] = {}
    position = 0.5
    while len(chosen) < min(count, blocks):
        position = (position + 0.618033988749895) % 1
        chosen[int(position * blocks)] = None
    return sorted(chosen)


def read(kernel: Kernel, geometry: Geometry, arguments: Sequence[Any], library: Library) -> LaunchTrace:
    """The trace of the launch that a library has just run."""
    traced = library.traced
    arrays = [position for position, each in enumerate(arguments) if isinstance(each, np.ndarray)]
    sites = [traced.accesses[i].contents for i in range(traced.count)]
    paths = [tuple(address - traced.image - 1 for address in site.path if address) for site in sites]
    lines = _lines(library.path, {address for path in paths for address in path})
    totals: dict[tuple[Any, ...], tuple[int, ...]] = {}
    for site, path in zip(sites, paths, strict=True):
        where = tuple(line for address in reversed(path) for line in reversed(lines[address]))
        argument = None if site.array == _SHARED else arrays[site.array]
        space = "shared" if argument is None else "global"
        key = where, space, argument, _KINDS[site.kind], site.width
        counts = site.requests, site.lanes, site.bytes, site.cost, site.ideal
        totals[key] = tuple(a + b for a, b in zip(totals.get(key, (0,) * 5), counts, strict=True))
    return LaunchTrace(
        kernel,
        geometry,
        tuple((each.shape, each.dtype.name) if isinstance(each, np.ndarray) else each.item() for each in arguments),
        traced.blocks,
        traced.barriers,
        traced.multiply_adds,
        {call.name.decode(): call.lanes for call in traced.calls if call.name},
        traced.loaded_sectors,
        traced.stored_sectors,
        tuple(Access(*key, *counts) for key, counts in totals.items()),
    )


_known: dict[Path, dict[int, tuple[str, ...]]] = defaultdict(dict)


def _lines(library: Path, addresses: set[int]) -> dict[int, tuple[str, ...]]:
    """The line of an address in a compiled file, and those of the calls that were inlined there, the innermost first.

    Lines of the emulator itself are left out.

    Raises:
        InputError: binutils are missing.
    """
    known = _known[library]
    asked = "\n".join(hex(address) for address in addresses - known.keys())
    if asked:
        command = ["addr2line", "--addresses", "--inlines", "--exe", str(library)]
        try:
            output = subprocess.run(command, input=asked, capture_output=True, text=True, check=True).stdout
        except FileNotFoundError:
            raise InputError("the memory trace needs addr2line; install it, on Debian: apt install binutils") from None
        for part in output.split("0x")[1:]:
            address, *lines = part.split("\n")
            shown = (line.partition(" ")[0] for line in lines if line)
            known[int(address, 16)] = tuple(line for line in shown if "emulator/include/" not in line)
    return known
