"""Problems measured one after the other on a device: within a deadline, written after each, believed or not."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from gzkern.device import Device, select
from gzkern.errors import InputError

from .peaks import Peaks, peaks_of
from .problems.problem import Problem
from .report import LATE, print_table, write_rows
from .timing import CpuStopwatch, CudaStopwatch, Stopwatch

Row = dict[str, Any]
P = TypeVar("P", bound=Problem)


@dataclass
class Harness:
    """The place of measurements.

    Attributes:
        name: of the device as it was asked for.
        device: of our kernels; None with ``absent``, the reason why it cannot be measured here.
        stopwatch: None where nothing is timed.
        samples: of every contender.
        peaks: of the device.
        facts: of the device, for the file.
        deadline: on ``time.monotonic``; problems left then are listed as not measured.
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
    """Return the harness of a device, also of one that this machine lacks."""
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


def run(
    problems: Iterable[P],
    measure: Callable[[P], Iterable[Row]],
    here: Harness,
    path: str | None,
    keys: Sequence[str],
    columns: Sequence[str],
) -> tuple[list[Row], int]:
    """Measure, print, and write after every problem.

    Args:
        problems: in order.
        measure: yields the rows of a problem, made by :func:`new_row`.
        here: the place.
        path: of the JSON file, or None.
        keys: of a row, beside those of its problem.
        columns: that are printed.

    Returns:
        All rows; and 1 if one of them must not be believed, else 0.
    """
    if here.device is None:
        rows = [new_row(problem, here, keys, missing=here.absent) for problem in problems]
        _say_absent(rows, here, path)
        return rows, 0
    rows = []
    try:
        for problem in problems:
            rows += _rows_of(problem, measure, here, keys)
            if path:
                write_rows(path, rows, here.facts)
    finally:
        print_table(rows, columns)
    doubts = [row["error"] for row in rows if row["error"]]
    for sentence in doubts:
        print(f"not to be believed: {sentence}", file=sys.stderr)
    return rows, 1 if doubts else 0


def new_row(problem: Problem, here: Harness, keys: Sequence[str], **known: Any) -> Row:
    """Return a row of a problem; of ``keys`` those that are not known are None."""
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
        **dict.fromkeys(keys),
        **known,
    }


def title(problem: Problem) -> str:
    """Name a problem in words."""
    words = problem.name, problem.layer, problem.pass_name, problem.variant, problem.precision
    return f"{' '.join(word for word in words if word)}, batch {problem.batch}"


def _rows_of(problem: P, measure: Callable[[P], Iterable[Row]], here: Harness, keys: Sequence[str]) -> list[Row]:
    """Measure one problem; where it breaks, the others still count."""
    if time.monotonic() > here.deadline:
        return [new_row(problem, here, keys, missing=LATE)]
    rows: list[Row] = []
    try:
        for row in measure(problem):
            rows.append(row)
    except MemoryError as error:
        rows.append(new_row(problem, here, keys, missing=f"more memory than there is: {error}"))
    except Exception as error:
        rows.append(new_row(problem, here, keys, error=f"{title(problem)}: {type(error).__name__}: {error}"))
    return rows


def _say_absent(rows: Sequence[Row], here: Harness, path: str | None) -> None:
    """Say that nothing is measured here, and write rows that say so, but never over those of another machine."""
    print(f"{len(rows)} rows not measured: {here.absent}")
    if path and Path(path).exists():
        print(f"{path} stands as it is")
    elif path:
        write_rows(path, rows, here.facts)
