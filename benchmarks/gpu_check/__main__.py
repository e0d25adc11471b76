"""Check and measure everything that needs a real GPU, in one command that fits into ten minutes.

python -m benchmarks.gpu_check --out DIR --minutes 9    check and measure; DIR/gpu_check.json has all of it
python -m benchmarks.gpu_check --dry-run --minutes 9    print the plan with its PREDICTED clock; needs no GPU
python -m benchmarks.gpu_check --unpack DIR             write the measurements to benchmarks/results/*_cuda.json

Most telling first (docs/gpu_check.md). Each item is a process with a limit of its own: a hang, a crash or a missing
library loses that item. gpu_check.json is rewritten after each, and the same command goes on with what is left.
It needs Python, NumPy, CuPy, Pillow and pytest; items that need more are left out, and say so.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import tempfile
from collections.abc import Collection
from pathlib import Path
from typing import Any

from gzkern.errors import InputError

from ..harness.command import call, new_parser
from ..harness.options import minutes
from ..harness.report import machine, print_table, write_json
from .plan import Stage, stages
from .processes import ROOT, Processes
from .schedule import PASSED, Result, Simulation, carry_out
from .summary import summary
from .unpack import unpack

NAME = "gpu_check.json"
CLOCK = ("stage", "item", "begin", "end", "limit")


def main(arguments: list[str] | None = None) -> int:
    """Run what is left of the check; 0 if all of it passed, 1 if not, 2 without a GPU."""
    options = _parse(arguments)
    if options.unpack:
        unpack(_document(options.unpack / NAME), options.results)
        return 0
    plan = _chosen(stages(options.small), options.only)
    if options.dry_run:
        print_plan(plan, 60 * options.minutes)
        return 0
    from gzkern.runtime.gpu import missing

    options.out.mkdir(parents=True, exist_ok=True)
    if reason := missing():
        write_json(options.out / NAME, {**machine(), "summary": [reason], "items": []})
        raise InputError(f"device 'cuda': {reason}")
    results = check(plan, 60 * options.minutes, options.out, options.only or ())
    print("\nLook at first:")
    for sentence in summary(results):
        print(f"- {sentence}")
    print(f"\nwrote {options.out / NAME}; python -m benchmarks.gpu_check --unpack {options.out} takes it apart")
    return 0 if all(each["status"] == PASSED for each in results) else 1


def check(plan: tuple[Stage, ...], seconds: float, out: Path, again: Collection[str] = ()) -> list[Result]:
    """Run the items that have not passed yet on these sources; write after each what is known.

    Args:
        plan: of the items.
        seconds: for all of them.
        out: the folder of an earlier call, or a new one.
        again: names of items that are run although they have passed.
    """
    path = out / NAME
    facts = {**machine(), "sources": _sources(), "minutes": seconds / 60}
    earlier = _earlier(path, facts["sources"])
    found: dict[str, Result | None] = {item.name: None for stage in plan for item in stage.items} | earlier
    done = {name for name, result in earlier.items() if result["status"] == PASSED} - set(again)

    def report(result: Result) -> None:
        found[result["name"]] = result
        known = [each for each in found.values() if each]
        write_json(path, {**facts, "summary": summary(known), "items": known})

    with tempfile.TemporaryDirectory() as scratch:
        runner = Processes(Path(scratch))
        carry_out(plan, seconds, runner, done, report)
    return [each for each in found.values() if each]


def print_plan(plan: tuple[Stage, ...], seconds: float) -> None:
    """Print when each item would begin and end by the seconds that it is PREDICTED to take."""
    print_table(predicted_clock(plan, seconds), CLOCK)
    print(f"PREDICTED, not measured: seconds on an H200 beside 16 cores, of {seconds:g}")


def predicted_clock(plan: tuple[Stage, ...], seconds: float) -> list[dict[str, Any]]:
    """Return a row an item, with the keys of ``CLOCK``, in the order in which they would end."""
    results: list[Result] = []
    carry_out(plan, seconds, Simulation(), (), results.append)
    rows = []
    for each in results:
        times = {"begin": each.get("begin"), "end": each["begin"] + each["seconds"] if "begin" in each else None}
        rounded = {name: None if time is None else round(time) for name, time in times.items()}
        limit = {"limit": round(each["limit"]) if "limit" in each else None}
        rows.append({"stage": each["stage"], "item": each["name"], **rounded, **limit})
    return rows


def _chosen(plan: tuple[Stage, ...], names: list[str] | None) -> tuple[Stage, ...]:
    """Keep the items of a plan that were asked for by name."""
    if names is None:
        return plan
    unknown = set(names) - {item.name for stage in plan for item in stage.items}
    if unknown:
        every = ", ".join(item.name for stage in plan for item in stage.items)
        raise InputError(f"--only {', '.join(sorted(unknown))}: expected some of {every}")
    return tuple(
        Stage(stage.name, stage.seconds, stage.together, tuple(item for item in stage.items if item.name in names))
        for stage in plan
    )


def _sources() -> str:
    """Digest the sources of everything that the items run."""
    digest = hashlib.sha256()
    for folder in ("gzkern", "kernels", "tests", "benchmarks"):
        for file in sorted((ROOT / folder).rglob("*")):
            result = "results" in file.relative_to(ROOT).parts
            if file.suffix in (".py", ".cu", ".cuh", ".hpp", ".toml", ".json") and not result:
                digest.update(file.read_bytes())
    return digest.hexdigest()


def _earlier(path: Path, sources: str) -> dict[str, Result]:
    """Read the results of an earlier call, on the same sources."""
    if not path.exists():
        return {}
    document = _document(path)
    if document.get("sources") != sources:
        return {}
    return {item["name"]: item for item in document["items"]}


def _document(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        assert isinstance(document["items"], list)
    except (OSError, ValueError, KeyError, TypeError, AssertionError) as error:
        raise InputError(f"{path}: expected what benchmarks.gpu_check writes, got {error!r}") from None
    return document


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = new_parser("benchmarks.gpu_check", __doc__)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--out", metavar="DIR", type=Path, help="results; the same DIR goes on")
    what.add_argument("--dry-run", action="store_true", help="print the plan alone")
    what.add_argument("--unpack", metavar="DIR", type=Path, help="take DIR/gpu_check.json apart")
    parser.add_argument("--minutes", type=minutes, default=9.0, metavar="M", help="end after (default: %(default)g)")
    parser.add_argument("--only", type=lambda text: text.split(","), metavar="NAMES", help="these items, with commas")
    parser.add_argument("--small", action="store_true", help="a rehearsal: small sizes, for a slow device")
    results = ROOT / "benchmarks" / "results"
    parser.add_argument("--results", metavar="DIR", type=Path, default=results, help="where --unpack writes")
    options = parser.parse_args(arguments)
    if options.out and options.out.exists() and not options.out.is_dir():
        parser.error(f"--out {options.out}: is a file; expected a directory")
    return options


if __name__ == "__main__":
    call(main)
