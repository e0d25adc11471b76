"""Every kernel compiled by every NVRTC that pyproject.toml allows, for every architecture that each of them knows.

python -m benchmarks.profile.toolchains                     prints compiler × architecture × result
python -m benchmarks.profile.toolchains --update            also rewrites benchmarks/results/kernel_resources/
python -m benchmarks.profile.toolchains --versions here     by the NVRTC of this environment alone

All files, and the tiles that the published network takes on the architecture's GPU. pip installs the compilers into the
cache of gzkern, some 640 MB, where the programs are kept too. It needs no GPU.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from gzkern.errors import GzkernError
from gzkern.runtime import source
from gzkern.runtime.backend import Unit
from gzkern.runtime.nvrtc import Program

from ..harness.command import call, new_parser
from ..harness.options import chosen
from ..harness.report import print_table
from .kernel_resources import (
    GPUS,
    Row,
    accepted_spills,
    problems,
    read,
    rows_of,
    spill_problems,
    tile_row,
    tiled_kernels,
    write,
)
from .nvrtc_versions import HERE, REQUIREMENTS, Compiler

_WARNING = re.compile(r"^.*(?:\bwarning\b|Potential Performance Loss|wait_group is injected).*$", re.MULTILINE)

COLUMNS = ("NVRTC", "architecture", "files", "tiles", "kernels that spill", "bytes at most", "CPU s", "result")


@dataclass
class Result:
    """All files and tiles compiled by one compiler for one architecture.

    Attributes:
        units: files and tiles that were asked for.
        failed: those that do not compile.
        seconds: CPU time of the compiler, for the others.
        rows: resources of their kernels.
        problems: errors and warnings of the compiler.
    """

    compiler: str
    architecture: str
    units: list[Unit]
    failed: list[Unit] = field(default_factory=list)
    seconds: float = 0.0
    rows: list[Row] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def cells(self) -> dict[str, str | int]:
        """A row of the printed table."""
        spills = [row.spill_stores for row in self.rows if row.spills]
        values = (
            self.compiler,
            self.architecture,
            self._compiled(tiles=False),
            self._compiled(tiles=True),
            len(spills),
            max(spills, default=0),
            round(self.seconds),
            "failed" if _problems(self) else "passed",
        )
        return dict(zip(COLUMNS, values, strict=True))

    def _compiled(self, tiles: bool) -> str:
        asked, failed = (sum(bool(tile) == tiles for _, tile in units) for units in (self.units, self.failed))
        return f"{asked - failed} of {asked}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Compile, print a table, record the rows with --update; return 1 if there are problems."""
    parser = new_parser("benchmarks.profile.toolchains", __doc__)
    versions, architectures = ",".join(REQUIREMENTS), ",".join(GPUS)
    names = chosen("version", [*REQUIREMENTS, HERE])
    parser.add_argument("--versions", type=names, default=versions, help=f"of {versions},{HERE}")
    names = chosen("architecture", GPUS)
    parser.add_argument("--architectures", type=names, default=architectures, help=f"of {architectures}")
    parser.add_argument("--update", action="store_true", help="rewrite the tables of these versions")
    options = parser.parse_args(arguments)
    results: list[Result] = []
    for version in options.versions:
        with Compiler(version) as compiler:
            of_version = compile_known(compiler, options.architectures)
        if options.update and of_version:
            _update(of_version)
        results += of_version
    print_table([result.cells() for result in results], COLUMNS)
    found = all_problems(results)
    print("".join(f"{problem}\n" for problem in found), end="")
    return 1 if found else 0


def compile_all(compiler: Compiler, architecture: str) -> Result:
    """Compile all files and tiles for one architecture."""
    kernels = tiled_kernels(architecture)
    tiles = dict.fromkeys((kernel.file, kernel.tile) for kernel in kernels)
    result = Result(compiler.version, architecture, [*((stem, ()) for stem in source.stems()), *tiles])
    futures = [compiler.submit(source.load(*unit), architecture) for unit in result.units]
    for unit, future in zip(result.units, futures, strict=True):
        try:
            compiled = future.result()
        except GzkernError as error:
            result.failed.append(unit)
            result.problems.append(str(error))
            continue
        result.seconds += compiled.seconds
        result.problems += warnings(compiled.program)
        here = [kernel for kernel in kernels if (kernel.file, kernel.tile) == unit]
        rows = [tile_row(compiled.program, kernel, architecture) for kernel in here]
        result.rows += rows or rows_of(compiled.program, architecture)
    return result


def warnings(program: Program) -> list[str]:
    """List the log's warnings, and its notes that ptxas serialises warpgroup products or inserts waits for them."""
    return [line.strip() for line in _WARNING.findall(program.log)]


def compile_known(compiler: Compiler, architectures: Sequence[str]) -> list[Result]:
    """Compile all for each of the architectures that the compiler knows."""
    known = [each for each in architectures if GPUS[each].capability in compiler.architectures]
    return [compile_all(compiler, each) for each in known]


def all_problems(results: Iterable[Result]) -> list[str]:
    """List errors, warnings, and how the rows differ from the recorded tables and the accepted spills."""
    return [each for result in results for each in _problems(result)]


def _problems(result: Result) -> list[str]:
    return [
        *result.problems,
        *problems(result.rows, read(result.compiler)),
        *spill_problems(result.compiler, result.architecture, result.rows, accepted_spills()),
    ]


def _update(results: Sequence[Result]) -> None:
    """Replace the rows of these architectures in one compiler's table."""
    known = {result.architecture for result in results}
    kept = [row for row in read(results[0].compiler).values() if row.architecture not in known]
    write(results[0].compiler, [*kept, *(row for result in results for row in result.rows)])


if __name__ == "__main__":
    call(main)
