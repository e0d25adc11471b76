"""Ours against theirs: a problem to rows, one a baseline and state of the cache; and rows to a file and an exit code.

Of every baseline the fastest plan whose result is right meets ours, sample by sample in turns. A result that is wrong,
and a row that no device could reach, fail the run.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gzkern.core.files import write_atomically
from gzkern.device import Device, select
from gzkern.errors import InputError

from ..baselines import BASELINES
from .peaks import Peaks, clocks, peaks_of
from .problems.problem import Contender, Problem, launches
from .report import machine, print_table, spread
from .timing import CpuStopwatch, CudaStopwatch, Stopwatch, interleave, ranked
from .verify import LIMITS

L2 = ("cold", "warm")
COLUMNS = ["name", "layer", "pass", "variant", "precision", "batch", "l2", "ms", "tflops", "peak_percent", "gb_s",
           "memory_percent", "baseline", "ratio", "baseline_ms", "missing"]  # fmt: skip


MEASURED = (
    *("version", "l2", "ms", "ms_p20", "ms_p80", "tflops", "peak_percent", "gb_s", "memory_percent"),
    *("baseline", "ratio", "baseline_ms", "plan", "clocks_before", "clocks_after", "verified"),
    *("predicted_ms", "missing", "error"),
)
"""Keys of a row that are None where they are not known; ``ratio`` above 1 is a baseline that takes longer."""


@dataclass
class Harness:
    """Where contests take place.

    Attributes:
        device: of ours; None with ``absent``, what keeps it from being measured here.
        name: of the device as it was asked for.
        stopwatch: None where nothing is timed.
        samples: of every contender.
        peaks: of the device.
        facts: what it is.
        deadline: on ``time.monotonic``; what is left then is listed as not measured.
    """

    name: str
    device: Device | None
    absent: str | None
    stopwatch: Stopwatch | None
    samples: int
    peaks: Peaks
    facts: dict[str, Any] = field(default_factory=dict)
    deadline: float = float("inf")


def new_harness(name: str, samples: int, minutes: float | None = None) -> Harness:
    """The ring of a device, also of one that this machine lacks."""
    deadline = float("inf") if minutes is None else time.monotonic() + 60 * minutes
    try:
        device = select(name)
    except InputError as error:
        return Harness(name, None, str(error), None, samples, peaks_of({}), deadline=deadline)
    facts = device.describe()
    if name == "cpu":
        return Harness(name, device, None, CpuStopwatch() if samples else None, samples, peaks_of({}), facts, deadline)
    if name == "emulated":
        return Harness(name, device, None, None, samples, peaks_of({}), facts, deadline)
    from gzkern.runtime.cuda_backend import backend
    from gzkern.runtime.gpu import describe

    gpu = describe(0)
    peaks = peaks_of(gpu)
    stopwatch = CudaStopwatch(backend(), peaks.l2_bytes) if samples else None
    return Harness(name, device, None, stopwatch, samples, peaks, {**gpu, **facts}, deadline)


def rows_of(problem: Problem, here: Harness, baselines: Sequence[str]) -> Iterator[dict[str, Any]]:
    """The rows of one problem: ``missing`` says what they lack, ``error`` why they must not be believed."""
    assert here.device is not None
    if time.monotonic() > here.deadline:
        yield _row(problem, here, missing="no time left")
        return
    try:
        ours = problem.ours(here.device)
        with launches() as kernels:
            ours.run()
    except InputError as error:
        yield _row(problem, here, missing=f"no kernel of this precision: {error}")
        return
    common: dict[str, Any] = {"version": " + ".join(kernels) or "Numba and NumPy"}
    worst = problem.check(_again(ours))
    if here.stopwatch is None or not worst <= LIMITS["ours"]:
        common["missing"] = "not timed: only verified" if here.stopwatch is None else "not timed: wrong"
        yield _row(problem, here, **common, **_verdict(problem, worst))
        return
    rivals: dict[str, Contender] = {}
    lacking: dict[str, str] = {}
    for name in baselines:
        rival = _best(problem, here, name, lacking)
        if rival:
            rivals[name] = rival
    calls = {"ours": ours.run, **{name: rival.run for name, rival in rivals.items()}}
    common["clocks_before"] = clocks()
    seconds = {l2: interleave(calls, here.stopwatch, here.samples, l2 == "cold") for l2 in L2}
    common["clocks_after"] = clocks()
    common.update(_verdict(problem, max(worst, problem.check(_again(ours)))))
    for name in list(rivals):
        if not problem.check(_again(rivals[name])) <= LIMITS["theirs"]:
            lacking[name] = f"{rivals.pop(name).plan}: wrong after it was timed"
    for l2, taken in seconds.items():
        row = _row(problem, here, **common, l2=l2, **spread(taken["ours"]))
        mine = statistics.median(taken["ours"])
        _rate(row, problem, here.peaks, mine)
        row["error"] = row["error"] or here.peaks.beaten_by(row)
        for name in baselines:
            against: dict[str, Any] = {"baseline": name, "missing": lacking.get(name)}
            if name in rivals:
                theirs = statistics.median(taken[name])
                against |= {"baseline_ms": 1e3 * theirs, "ratio": theirs / mine, "plan": rivals[name].plan}
            yield {**row, **against}
        if not baselines:
            yield row


def run(
    problems: Iterable[Problem], here: Harness, baselines: Sequence[str], path: str | None
) -> tuple[list[dict[str, Any]], int]:
    """All rows, printed, and written after every problem; 1 if one of them must not be believed, else 0."""
    rows: list[dict[str, Any]] = []
    if here.device is None:
        rows = [_row(problem, here, missing=here.absent) for problem in problems]
        say_absent(rows, here, path)
        return rows, 0
    try:
        for problem in problems:
            try:
                rows.extend(rows_of(problem, here, baselines))
            except MemoryError as error:
                rows.append(_row(problem, here, missing=f"more memory than there is: {error}"))
            except Exception as error:  # of one problem; the others still count
                rows.append(_row(problem, here, error=f"{title(problem)}: {type(error).__name__}: {error}"))
            if path:
                write_rows(path, rows, here.facts)
    finally:
        print_table(rows, COLUMNS)
    doubts = [row["error"] for row in rows if row["error"]]
    for sentence in doubts:
        print(f"not to be believed: {sentence}", file=sys.stderr)
    return rows, 1 if doubts else 0


def say_absent(rows: Sequence[dict[str, Any]], here: Harness, path: str | None) -> None:
    """Say that nothing is measured here, and write the rows that say so, but never over those of another machine."""
    print(f"{len(rows)} rows not measured: {here.absent}")
    if path and Path(path).exists():
        print(f"{path} stands as it is")
    elif path:
        write_rows(path, rows, here.facts)


def write_rows(path: str, rows: Sequence[dict[str, Any]], facts: dict[str, Any]) -> None:
    """The rows so far, whole or not at all, with the machine and the command."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    document = {**machine(), **facts, "rows": list(rows)}
    write_atomically(path, (json.dumps(document, indent=1) + "\n").encode())


def _best(problem: Problem, here: Harness, name: str, lacking: dict[str, str]) -> Contender | None:
    """The fastest plan of a baseline whose result is right; in ``lacking`` why there is none."""
    assert here.device is not None
    assert here.stopwatch is not None
    opponent = BASELINES[name]
    reason = opponent.missing(here.device)
    if reason:
        lacking[name] = reason
        return None
    refused: dict[str, str] = {}
    contenders: dict[str, Contender] = {}
    try:
        contenders = {c.plan: c for c in opponent.contenders(problem, here.device)}
    except Exception as error:  # whatever a library raises where it cannot
        refused["all plans"] = str(error).strip().partition("\n")[0]
    for plan in ranked({plan: c.run for plan, c in contenders.items()}, here.stopwatch, refused):
        worst = problem.check(_again(contenders[plan]))
        if worst <= LIMITS["theirs"]:
            return contenders[plan]
        refused[plan] = f"off by {worst:.1f} times the bound"
    lacking[name] = "; ".join(f"{plan}: {why}" for plan, why in refused.items())[:500] or "has no such call"
    return None


def _again(contender: Contender) -> Any:
    contender.run()
    return contender.fetch()


def _verdict(problem: Problem, worst: float) -> dict[str, Any]:
    """``verified``, and an ``error`` if the result is wrong."""
    found: dict[str, Any] = {"verified": {"against": problem.checked, "error_over_bound": float(f"{worst:.3g}")}}
    if not worst <= LIMITS["ours"]:
        found["error"] = f"{title(problem)}: off by {worst:.2g} times what float64 allows"
    return found


def title(problem: Problem) -> str:
    """A problem in words."""
    words = problem.name, problem.layer, problem.pass_name, problem.variant, problem.precision
    return f"{' '.join(word for word in words if word)}, batch {problem.batch}"


def _row(problem: Problem, here: Harness, **known: Any) -> dict[str, Any]:
    """A row, its values None where they are not known."""
    return {
        "name": problem.name,
        "layer": problem.layer,
        "pass": problem.pass_name,
        "variant": problem.variant,
        "precision": problem.precision,
        "batch": problem.batch,
        "device": here.facts.get("gpu") or here.name,
        "flops": problem.work.flops,
        "bytes": problem.work.bytes,
        "samples": here.samples,
        **dict.fromkeys(MEASURED),
        **known,
    }


def _rate(row: dict[str, Any], problem: Problem, peaks: Peaks, seconds: float) -> None:
    """Fill in rates and percentages of the peaks."""
    row["tflops"] = problem.work.flops / seconds / 1e12
    row["gb_s"] = problem.work.bytes / seconds / 1e9
    peak = peaks.tflops.get(problem.precision)
    row["peak_percent"] = 100 * row["tflops"] / peak if peak else None
    row["memory_percent"] = 100 * row["gb_s"] / peaks.gb_s if peaks.gb_s else None
