"""Excess sectors and bank conflicts of the convolutions' kernels, as recorded, so that none comes back unseen.

python -m benchmarks.profile.kernel_memory             prints the table
python -m benchmarks.profile.kernel_memory --update    rewrites benchmarks/results/kernel_memory.json

One block of every launch is traced on the emulated device, at the sizes of the published network, 16 images; of all
versions but the naive ones, which are slow to trace and have no shared memory.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from itertools import product

from gzkern.errors import InputError

from ..harness.command import call, new_parser
from ..harness.problems.layers import LAYERS
from ..harness.report import RESULTS, print_table, read_json, write_lines
from .kernel_report import CONVOLUTIONS, trace, versions

PATH = RESULTS / "kernel_memory.json"
UPDATE = "python -m benchmarks.profile.kernel_memory --update"
CALLS = tuple(call for call in product(CONVOLUTIONS, LAYERS) if call != ("conv2d_backward_data", "conv1"))
"""Operation and layer; the images have no gradient."""

Key = tuple[str, str, str, str]


@dataclass(frozen=True)
class Row:
    """The cost of the requests of a launch's traced block, and the least cost; see ``emulator.trace.Access``."""

    operation: str
    layer: str
    version: str
    kernel: str
    sectors: int
    ideal_sectors: int
    wavefronts: int
    ideal_wavefronts: int

    @property
    def key(self) -> Key:
        """All but the counts."""
        return self.operation, self.layer, self.version, self.kernel


def main(arguments: list[str] | None = None) -> int:
    """Print the table, or rewrite its file."""
    parser = new_parser("benchmarks.profile.kernel_memory", __doc__)
    parser.add_argument("--update", action="store_true", help=f"rewrite {PATH.name}")
    options = parser.parse_args(arguments)
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        rows = [row for found in pool.map(measure, *zip(*CALLS, strict=True)) for row in found]
    if options.update:
        write(rows)
        print(f"wrote {PATH}: {len(rows)} rows")
    else:
        print_table([asdict(row) for row in rows], list(Row.__annotations__))
    return 0


def measure(operation: str, layer: str, chosen_in: Collection[str] | None = None) -> list[Row]:
    """The launches of the versions of a call that take its sizes; or only of those chosen in some precisions.

    Raises:
        InputError: no compiler.
    """
    return list(_measured(operation, layer, chosen_in))


def _measured(operation: str, layer: str, chosen_in: Collection[str] | None) -> Iterator[Row]:
    for version in versions(operation, layer)[1]:
        if version.name == "naive":
            continue
        if chosen_in is not None and not (version.chosen and version.precision in chosen_in):
            continue
        try:
            launches = trace(version, blocks=1)
        except InputError:  # not for these sizes
            continue
        for launch in launches:
            counts = [launch.total(what, space) for space in ("global", "shared") for what in ("cost", "ideal")]
            yield Row(operation, layer, version.name, launch.kernel.name, *counts)


def problems(rows: Iterable[Row], recorded: dict[Key, Row]) -> list[str]:
    """List kernels that are not recorded, or that now cost more above the ideal than was recorded."""
    found = []
    for row in rows:
        name, before = f"{row.kernel} of {row.operation} {row.layer} ({row.version})", recorded.get(row.key)
        if before is None:
            found.append(f"{name} is not in {PATH.name}; run {UPDATE}")
            continue
        for what in ("sectors", "wavefronts"):
            now, then = _share(row, what), _share(before, what)
            if now > then + 0.005:
                found.append(
                    f"{name}: {what} are {now:.2f} times the ideal, recorded {then:.2f}; see python -m "
                    f"benchmarks.profile.kernel_report {row.operation} --layer {row.layer}; if meant, run {UPDATE}"
                )
    return found


def _share(row: Row, what: str) -> float:
    """The cost as a multiple of the ideal."""
    return getattr(row, what) / max(getattr(row, f"ideal_{what}"), 1)


def read() -> dict[Key, Row]:
    """Read the recorded rows."""
    document = read_json(PATH) or {"rows": []}
    return {row.key: row for row in (Row(**each) for each in document["rows"])}


def write(rows: Iterable[Row]) -> None:
    """Record the table."""
    write_lines(PATH, {"command": UPDATE}, map(asdict, rows))


if __name__ == "__main__":
    call(main)
