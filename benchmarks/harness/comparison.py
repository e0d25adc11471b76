"""Ours against baselines: a problem to rows, one a baseline and state of the cache.

The fastest plan of every baseline whose result is right meets ours, sample by sample in turns. A result that is wrong,
and a row that no device could reach, fail the run.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from gzkern.errors import InputError

from ..baselines import BASELINES
from .measuring import Harness, Row, new_row, run, title
from .peaks import Peaks, clocks
from .problems.problem import Contender, Problem, launches
from .report import spread
from .timing import interleave, ranked
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


def compare(
    problems: Iterable[Problem], here: Harness, baselines: Sequence[str], path: str | None
) -> tuple[list[Row], int]:
    """Measure problems against baselines, print and write; see :func:`.measuring.run`."""
    return run(problems, lambda problem: rows_of(problem, here, baselines), here, path, MEASURED, COLUMNS)


def rows_of(problem: Problem, here: Harness, baselines: Sequence[str]) -> Iterator[Row]:
    """Yield the rows of one problem: ``missing`` says what they lack, ``error`` why they must not be believed."""
    assert here.device is not None
    try:
        ours = problem.ours(here.device)
        with launches() as kernels:
            ours.run()
    except InputError as error:
        yield new_row(problem, here, MEASURED, missing=f"no kernel of this precision: {error}")
        return
    common: Row = {"version": " + ".join(kernels) or "Numba and NumPy"}
    worst = problem.check(_again(ours))
    if here.stopwatch is None or not worst <= LIMITS["ours"]:
        common["missing"] = "not timed: only verified" if here.stopwatch is None else "not timed: wrong"
        yield new_row(problem, here, MEASURED, **common, **_verdict(problem, worst))
        return
    yield from _timed(problem, here, ours, common, worst, baselines)


def _timed(
    problem: Problem, here: Harness, ours: Contender, common: Row, worst: float, baselines: Sequence[str]
) -> Iterator[Row]:
    """Time ours and the best of each baseline in turns; yield a row a state of the cache and baseline."""
    assert here.stopwatch is not None
    lacking: dict[str, str] = {}
    best = {name: _best(problem, here, name, lacking) for name in baselines}
    rivals = {name: rival for name, rival in best.items() if rival}
    calls = {"ours": ours.run, **{name: rival.run for name, rival in rivals.items()}}
    common["clocks_before"] = clocks()
    seconds = {l2: interleave(calls, here.stopwatch, here.samples, l2 == "cold") for l2 in L2}
    common["clocks_after"] = clocks()
    common.update(_verdict(problem, max(worst, problem.check(_again(ours)))))
    for name in list(rivals):
        if not problem.check(_again(rivals[name])) <= LIMITS["theirs"]:
            lacking[name] = f"{rivals.pop(name).plan}: wrong after it was timed"
    for l2, taken in seconds.items():
        row = new_row(problem, here, MEASURED, **common, l2=l2, **spread(taken["ours"]))
        mine = statistics.median(taken["ours"])
        _rate(row, problem, here.peaks, mine)
        row["error"] = row["error"] or here.peaks.beaten_by(row)
        for name in baselines:
            against: Row = {"baseline": name, "missing": lacking.get(name)}
            if name in rivals:
                theirs = statistics.median(taken[name])
                against |= {"baseline_ms": 1e3 * theirs, "ratio": theirs / mine, "plan": rivals[name].plan}
            yield {**row, **against}
        if not baselines:
            yield row


def _best(problem: Problem, here: Harness, name: str, lacking: dict[str, str]) -> Contender | None:
    """Return the fastest plan of a baseline whose result is right; say in ``lacking`` why there is none."""
    assert here.device is not None
    assert here.stopwatch is not None
    library = BASELINES[name]
    reason = library.missing(here.device)
    if reason:
        lacking[name] = reason
        return None
    refused: dict[str, str] = {}
    contenders: dict[str, Contender] = {}
    try:
        contenders = {c.plan: c for c in library.contenders(problem, here.device)}
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


def _rate(row: dict[str, Any], problem: Problem, peaks: Peaks, seconds: float) -> None:
    """Fill in rates and percentages of the peaks."""
    row["tflops"] = problem.work.flops / seconds / 1e12
    row["gb_s"] = problem.work.bytes / seconds / 1e9
    peak = peaks.tflops.get(problem.precision)
    row["peak_percent"] = 100 * row["tflops"] / peak if peak else None
    row["memory_percent"] = 100 * row["gb_s"] / peaks.gb_s if peaks.gb_s else None
