"""What each kernel takes of a multiprocessor, as the compiler says: registers, shared memory, spills, resident blocks.

python -m benchmarks.kernel_resources             prints the table
python -m benchmarks.kernel_resources --update    rewrites benchmarks/results/kernel_resources.json

It needs CuPy and NVRTC, and no GPU. Blocks have the size of __launch_bounds__, else the 256 threads of elementwise
kernels; shared memory whose size the launch chooses is not counted. Kernels that are compiled once a tile are there as
their file has them, and, for sm_90a, in the tiles of the published network.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path

from benchmarks.conv_problem import LAYERS, PASSES, published
from benchmarks.occupancy import resident_blocks
from benchmarks.report import print_table
from gzkern.cuda import conv2d, nvrtc, source
from gzkern.cuda.launch import Kernel
from gzkern.emulator.backend import LIMITS
from gzkern.shapes import BACKWARD_DATA

PATH = Path(__file__).parent / "results" / "kernel_resources.json"
UPDATE = "python -m benchmarks.kernel_resources --update"
ARCHITECTURES = ("sm_80", "sm_90a")

_THREADS = 256

_ENTRY = re.compile(r"Compiling entry function '(\w+)' for '\w+'(.*?)(?=Compiling entry function|\Z)", re.DOTALL)
_MEMORY = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
_USED = re.compile(r"Used (\d+) registers(?:.*?(\d+) bytes smem)?")
_BOUNDS = re.compile(r"\.entry (\w+)\([^)]*\)\s*\.maxntid (\d+)(?:, (\d+), (\d+))?")


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


def main(arguments: list[str] | None = None) -> int:
    """Print the table, or rewrite its file; 2 where there is no compiler."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.kernel_resources",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--update", action="store_true", help=f"rewrite {PATH.name}")
    options = parser.parse_args(arguments)
    try:
        nvrtc.version()
    except (ImportError, RuntimeError) as error:
        print(f'benchmarks.kernel_resources: no NVRTC ({error}); pip install -e ".[nvrtc]"', file=sys.stderr)
        return 2
    rows = measure()
    if options.update:
        write(rows)
        print(f"wrote {PATH}: {len(rows)} rows")
    else:
        print_table([asdict(row) for row in rows], list(Row.__annotations__))
    return 0


def measure() -> list[Row]:
    """All kernels on all architectures, and those of the network's tiles, compiled anew."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        files = [pool.submit(_file_rows, stem, each) for stem in source.stems() for each in ARCHITECTURES]
        tiles = [pool.submit(tile_row, kernel) for kernel in network_kernels()]
        rows = [row for file in files for row in file.result()] + [tile.result() for tile in tiles]
    return sorted(rows, key=lambda row: (row.kernel, row.architecture, row.tile))


def network_kernels() -> list[Kernel]:
    """The compiled kernels, with their tiles, that an H100 takes for the published network at batch 16 and 256."""
    kernels: dict[Kernel, None] = {}
    for layer, pass_name, batch in product(LAYERS, PASSES, (16, 256)):
        sizes, form = published(layer, batch)
        for module in conv2d.COMPILED[pass_name].values():
            for precision, kernel in module.KERNELS.items():
                tile = module.choose_tile(sizes, form, LIMITS, precision)
                if tile is not None and (layer, pass_name) != ("conv1", BACKWARD_DATA):
                    kernels[kernel.of(tile)] = None
    return list(kernels)


def tile_row(kernel: Kernel) -> Row:
    """What the compiler says of a kernel with its tile, on the newest of the architectures."""
    program = nvrtc.compile_source(source.load(kernel.file, kernel.tile), ARCHITECTURES[-1])
    row = next(row for row in rows_of(program, ARCHITECTURES[-1]) if row.kernel == kernel.name)
    return replace(row, tile=", ".join(map(str, kernel.tile)))


def _file_rows(stem: str, architecture: str) -> list[Row]:
    return list(rows_of(nvrtc.compile_source(source.load(stem), architecture), architecture))


def rows_of(program: nvrtc.Program, architecture: str) -> Iterator[Row]:
    """What the compiler said of each kernel of a file."""
    bounds = {name: int(x) * int(y or 1) * int(z or 1) for name, x, y, z in _BOUNDS.findall(program.ptx)}
    for name, text in _ENTRY.findall(program.log):
        memory, used = _MEMORY.search(text), _USED.search(text)
        if memory is None or used is None:
            raise ValueError(f"the compiler's words on {name} are not understood:{text}")
        stack, stores, loads = map(int, memory.groups())
        threads, registers, shared = bounds.get(name, _THREADS), int(used[1]), int(used[2] or 0)
        blocks = resident_blocks(architecture, threads, registers, shared)
        yield Row(name, "", architecture, threads, registers, shared, stack, stores, loads, blocks)


def problems(rows: Iterable[Row], recorded: dict[tuple[str, str, str], Row]) -> list[str]:
    """What must not be: spills, and kernels that are not recorded or whose registers now cost a resident block."""
    found = []
    for row in rows:
        name, before = f"{row.kernel} on {row.architecture}", recorded.get((row.kernel, row.tile, row.architecture))
        name = f"{name} with tile {row.tile}" if row.tile else name
        if row.spill_stores or row.spill_loads:
            found.append(f"{name} spills {row.spill_stores} bytes, {row.spill_loads} loaded again")
        if before is None:
            found.append(f"{name} is not in {PATH.name}; run {UPDATE}")
        elif row.blocks < before.blocks:
            found.append(
                f"{name}: {row.blocks} resident blocks of {row.threads} threads, recorded {before.blocks} "
                f"({row.registers} registers, recorded {before.registers}); if that is meant, run {UPDATE}"
            )
    return found


def read() -> tuple[str, dict[tuple[str, str, str], Row]]:
    """The compiler of the recorded table, and its rows by kernel, tile and architecture."""
    document = json.loads(PATH.read_text(encoding="utf-8"))
    rows = [Row(**row) for row in document["rows"]]
    return document["compiler"], {(row.kernel, row.tile, row.architecture): row for row in rows}


def write(rows: Iterable[Row]) -> None:
    """Record the table, a row a line."""
    lines = ",\n".join(f"  {json.dumps(asdict(row))}" for row in rows)
    head = json.dumps({"command": UPDATE, "compiler": compiler()})[1:-1]
    PATH.write_text(f'{{\n {head},\n "rows": [\n{lines}\n ]\n}}\n', encoding="utf-8")


def compiler() -> str:
    """Name and version of the compiler here."""
    return "NVRTC {}.{}".format(*nvrtc.version())


if __name__ == "__main__":
    sys.exit(main())
