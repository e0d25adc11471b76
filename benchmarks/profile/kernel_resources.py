"""Registers, shared memory, spills and resident blocks of each kernel, as compilers report them.

The tables are in benchmarks/results/kernel_resources/, one a compiler; benchmarks/profile/toolchains.py measures them.
A row is a kernel as its file has it; or a kernel that is compiled once a layer, with a tile that the published network
takes on the architecture's GPU. Blocks have the size of __launch_bounds__, else the 256 threads of elementwise kernels;
shared memory whose size the launch chooses is not counted.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import astuple, dataclass, fields, replace
from functools import cache
from pathlib import Path

from gzkern.cuda.conv2d.choice import PRECISIONS
from gzkern.models.algorithms import chosen
from gzkern.runtime.backend import Limits
from gzkern.runtime.kernel import Kernel
from gzkern.runtime.nvrtc import Program

from ..harness.report import RESULTS, read_json, write_lines
from .occupancy import resident_blocks

FOLDER = RESULTS / "kernel_resources"
ACCEPTED = Path(__file__).parent / "accepted_spills.toml"
UPDATE = "python -m benchmarks.profile.toolchains --update"

GPUS = {
    "sm_80": Limits(80, 108, 163 * 1024),  # A100
    "sm_86": Limits(86, 82, 99 * 1024),  # RTX 3090
    "sm_89": Limits(89, 128, 99 * 1024),  # RTX 4090
    "sm_90a": Limits(90, 132, 227 * 1024),  # H100, H200
    "sm_100": Limits(100, 148, 227 * 1024),  # B200
    "sm_120": Limits(120, 170, 99 * 1024),  # RTX 5090
}
"""The GPU for which tiles are chosen, by architecture."""

BATCHES = (16, 256)

_THREADS = 256

_ENTRY = re.compile(r"Compiling entry function '(\w+)' for '\w+'(.*?)(?=Compiling entry function|\Z)", re.DOTALL)
_MEMORY = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
_USED = re.compile(r"Used (\d+) registers(?:.*?(\d+) bytes smem)?")
_BOUNDS = re.compile(r"\.entry (\w+)\([^)]*\)\s*\.maxntid (\d+)(?:, (\d+), (\d+))?")

Key = tuple[str, str, str]
"""Kernel, tile and architecture."""


@dataclass(frozen=True)
class Row:
    """A kernel on an architecture; bytes a thread but for the shared memory, which is a block's.

    ``tile`` has the template arguments, empty for those of the file.
    """

    kernel: str
    tile: str
    architecture: str
    threads: int
    registers: int
    shared: int
    stack: int
    spill_stores: int
    spill_loads: int
    blocks: int

    @property
    def key(self) -> Key:
        """Kernel, tile and architecture."""
        return self.kernel, self.tile, self.architecture

    @property
    def spills(self) -> bool:
        """Say whether the kernel stores registers in local memory."""
        return bool(self.spill_stores or self.spill_loads)

    def __str__(self) -> str:
        tile = f" with tile {self.tile}" if self.tile else ""
        return f"{self.kernel} on {self.architecture}{tile}"


@dataclass(frozen=True)
class Spill:
    """A spill by one compiler that is accepted for a reason; a thread stores so many bytes."""

    compiler: str
    architecture: str
    kernel: str
    tile: str
    bytes: int
    reason: str

    @property
    def key(self) -> Key:
        """Kernel, tile and architecture, as :attr:`Row.key`."""
        return self.kernel, self.tile, self.architecture


@cache
def tiled_kernels(architecture: str) -> list[Kernel]:
    """List the kernels, with their tiles, that the GPU takes for the published network at either batch."""
    kernels = (each.kernel for each in chosen(GPUS[architecture], BATCHES, PRECISIONS))
    return list(dict.fromkeys(kernel for kernel in kernels if kernel is not None))


def tile_row(program: Program, kernel: Kernel, architecture: str) -> Row:
    """Read the row of one kernel from the log of a file that was compiled for its tile."""
    row = next(row for row in rows_of(program, architecture) if row.kernel == kernel.name)
    return replace(row, tile=", ".join(map(str, kernel.tile)))


def rows_of(program: Program, architecture: str) -> Iterator[Row]:
    """Read the row of each kernel of a file from the compiler's log."""
    bounds = {name: int(x) * int(y or 1) * int(z or 1) for name, x, y, z in _BOUNDS.findall(program.ptx)}
    for name, text in _ENTRY.findall(program.log):
        memory, used = _MEMORY.search(text), _USED.search(text)
        if memory is None or used is None:
            raise ValueError(f"the compiler's words on {name} are not understood:{text}")
        stack, stores, loads = map(int, memory.groups())
        threads, registers, shared = bounds.get(name, _THREADS), int(used[1]), int(used[2] or 0)
        blocks = resident_blocks(architecture, threads, registers, shared)
        yield Row(name, "", architecture, threads, registers, shared, stack, stores, loads, blocks)


def problems(rows: Iterable[Row], recorded: Mapping[Key, Row]) -> list[str]:
    """List kernels that are not recorded, spills beyond the record, and resident blocks lost since the record."""
    found = []
    for row in rows:
        before = recorded.get(row.key)
        if before is None:
            found.append(f"{row} is not recorded; run {UPDATE}")
        if row.spill_stores > (before.spill_stores if before else 0):
            found.append(f"{row} spills {row.spill_stores} bytes, recorded {before.spill_stores if before else 0}")
        if before and row.blocks < before.blocks:
            found.append(
                f"{row}: {row.blocks} resident blocks of {row.threads} threads, recorded {before.blocks} "
                f"({row.registers} registers, recorded {before.registers}); if that is meant, run {UPDATE}"
            )
    return found


def spill_problems(version: str, architecture: str, rows: Iterable[Row], accepted: Iterable[Spill]) -> list[str]:
    """List spills on an architecture that are not accepted with these bytes, and accepted ones that are gone."""
    expected = {
        each.key: each.bytes for each in accepted if (each.compiler, each.architecture) == (version, architecture)
    }
    found = {row.key: row.spill_stores for row in rows if row.spills and row.architecture == architecture}
    return [
        f"NVRTC {version}: {key[0]} on {architecture} with tile {key[1] or 'of the file'} spills {found.get(key, 0)} "
        f"bytes, {ACCEPTED.name} has {expected.get(key, 0)}"
        for key in sorted(found.keys() | expected.keys())
        if found.get(key) != expected.get(key)
    ]


def accepted_spills() -> list[Spill]:
    """Read the accepted spills from accepted_spills.toml."""
    document = tomllib.loads(ACCEPTED.read_text(encoding="utf-8"))
    return [
        Spill(compiler, architecture, group["kernel"], tile, stored, group["reason"])
        for group in document["spill"]
        for compiler, architecture, tile, stored in group["found"]
    ]


def recorded_versions() -> list[str]:
    """List the versions of the compilers that have a table."""
    return sorted(path.stem.removeprefix("nvrtc-") for path in FOLDER.glob("nvrtc-*.json"))


def read(version: str) -> dict[Key, Row]:
    """Read the table of a compiler, such as "13.0"; it is empty where none is recorded."""
    document = read_json(_path(version)) or {"rows": []}
    return {row.key: row for row in (Row(*values) for values in document["rows"])}


def write(version: str, rows: Iterable[Row]) -> Path:
    """Write a compiler's table, a row a line, and return its path."""
    ordered = sorted(rows, key=lambda row: (row.kernel, row.architecture, row.tile))
    head = {"command": UPDATE, "compiler": f"NVRTC {version}", "columns": [field.name for field in fields(Row)]}
    path = _path(version)
    write_lines(path, head, map(astuple, ordered))
    return path


def _path(version: str) -> Path:
    return FOLDER / f"nvrtc-{version}.json"
