"""The fastest tile: compiled kernels of a convolution, each with the tiles that its estimate ranks first.

In fp32 the last of the ladder's versions, which needs no tile, takes part.

python -m benchmarks.tiles --layer conv2 --pass forward --precision fp32 --batch 16 --top 8 --json tiles.json
python -m benchmarks.tiles --device emulated --layer conv2 --top 1

Tiles take turns, with cold caches; each result is checked against float64. "rank" is a version's own, by its estimate,
and "chosen" the one that the network would take: where it is not the first of the table, the estimate is wrong.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from functools import partial
from typing import Any

from gzkern.cuda.conv2d import choice
from gzkern.device import Device
from gzkern.runtime.arrays import backend_of

from .conv import convolutions
from .harness.command import call, new_parser
from .harness.measuring import Harness, Row, new_harness, new_row, run, title
from .harness.options import DEVICES, batches, chosen, file, minutes, positive
from .harness.problems.conv2d import ConvProblem
from .harness.problems.layers import LAYERS, PASSES
from .harness.problems.problem import Contender
from .harness.report import spread
from .harness.timing import interleave, ranked
from .harness.verify import LIMITS, PRECISIONS

COLUMNS = ["layer", "pass", "precision", "batch", "version", "rank", "chosen", "ms", "tflops", "tile", "missing"]
MEASURED = (
    *("version", "rank", "chosen", "ms", "ms_p20", "ms_p80", "tflops", "tile", "error_over_bound"),
    *("missing", "error"),
)
"""Keys of a row that are None where they are not known."""

_SAMPLED = 4  # as many as the best of a first look are timed in turns


def main(arguments: list[str] | None = None) -> int:
    """Measure, print, write; 1 if a result was wrong."""
    options = _parse(arguments)
    here = new_harness(options.device, options.samples, options.minutes)
    measure = partial(_rows, here=here, top=options.top)
    _, code = run(_problems(options), measure, here, options.json, MEASURED, COLUMNS)
    return code


def _problems(options: argparse.Namespace) -> Iterator[ConvProblem]:
    """Yield the problems asked for that have kernels of their precision."""
    for problem in convolutions(options, plain=(False,)):
        if problem.precision in choice.precisions_of(problem.pass_name):
            yield problem


def _rows(problem: ConvProblem, here: Harness, top: int) -> Iterator[Row]:
    """Yield one row a tile, fastest first."""
    assert here.device is not None
    rows, calls = {}, {}
    for name, facts, contender in _contenders(problem, here.device, top):
        contender.run()
        error = problem.check(contender.fetch())
        rows[name] = new_row(problem, here, MEASURED, **facts, error_over_bound=error)
        if error <= LIMITS["ours"]:
            calls[name] = contender.run
        else:
            rows[name]["error"] = f"{title(problem)}, {name}: off by {error:.2g} times what float64 allows"
    if not rows:
        yield new_row(problem, here, MEASURED, missing="no compiled kernel takes these sizes")
    if here.stopwatch is None:
        yield from ({**row, "missing": "not timed: only verified"} for row in rows.values())
        return
    refused: dict[str, str] = {}
    order = ranked(calls, here.stopwatch, refused)
    best = interleave({name: calls[name] for name in order[:_SAMPLED]}, here.stopwatch, here.samples, cold=True)
    for name, seconds in best.items():
        rows[name].update(spread(seconds))
        rows[name]["tflops"] = problem.work.flops / rows[name]["ms"] / 1e9
    yield from sorted(rows.values(), key=lambda row: (row["ms"] is None, row["ms"]))


def _contenders(problem: ConvProblem, device: Device, top: int) -> Iterator[tuple[str, dict[str, Any], Contender]]:
    """Yield name, facts and call of the first tiles of each version, and of the ladder."""
    limits = backend_of("conv2d", x=device.asarray(problem.array("x")[:1, :1, :1, :4].copy())).limits
    asked = problem.pass_name, problem.sizes, problem.epilogue, limits, problem.precision
    taken = choice.choose(*asked)
    if problem.precision == "fp32":
        version = choice.LADDERS[problem.pass_name].choose(problem.sizes, None)
        facts: dict[str, Any] = {"version": version, "chosen": "yes" if version == taken.version else None}
        yield version, facts, problem.by(device, version, version=version)
    for version, algorithm in choice.ALGORITHMS[problem.pass_name].items():
        if problem.precision not in algorithm.kernels:
            continue
        for rank, tile in enumerate(algorithm.tiles(*asked[1:])[:top], start=1):
            is_chosen = (version, tile) == (taken.version, taken.tile)
            facts = {"version": version, "rank": rank, "chosen": "yes" if is_chosen else None, "tile": str(tile)}
            yield f"{version} {rank}", facts, problem.by(device, str(tile), version=version, tile=tile)


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = new_parser("benchmarks.tiles", __doc__)
    for flag, dest, names in (
        ("layer", "layer", LAYERS),
        ("pass", "pass_", PASSES),
        ("precision", "precision", PRECISIONS),
    ):
        kind = chosen(flag, names, everything=True)
        parser.add_argument(f"--{flag}", dest=dest, type=kind, default=list(names), help="all, or some with commas")
    parser.add_argument("--device", choices=DEVICES[:2], default="cuda", help="emulated verifies alone (default: cuda)")
    parser.add_argument("--batch", type=batches, help="images, with commas")
    parser.add_argument("--top", type=positive, default=8, help="tiles of a version (default: %(default)s)")
    parser.add_argument("--samples", type=positive, default=30, help=f"of the best {_SAMPLED} (default: %(default)s)")
    parser.add_argument("--minutes", type=minutes, help="begin nothing new after so many; the rest is listed")
    parser.add_argument("--json", metavar="FILE", type=file, help="write the rows")
    options = parser.parse_args(arguments)
    if not any(True for _ in _problems(options)):
        parser.error("nothing to measure: conv1 has no gradient of its data, bf16 no gradients at all")
    return options


if __name__ == "__main__":
    call(main)
