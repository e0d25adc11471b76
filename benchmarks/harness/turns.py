"""Engines that take turns at the passes of one case: measurements of each, or the reason why there are none."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .engines import PREDICT, STEP, Build, Case, Process

ANSWERS = {"fp32": 1e-5, "fp32x3": 1e-5, "tf32": 1e-2, "bf16": 5e-2}
"""Allowed of an answer, which lies between 0 and 1, by precision."""

_ROUNDS_BEFORE = 2  # to compile and warm up


@dataclass
class Measured:
    """An engine's pass.

    Attributes:
        precision: of the products.
        seconds: samples.
        failed: why there is none to believe.
        verified: how its result was checked.
        peak_bytes: of memory.
        python_shares: of steps of ours on the CPU.
        launches: operation, kernel and ms of each launch of ours on a GPU.
    """

    precision: str
    seconds: list[float] = field(default_factory=list)
    failed: str | None = None
    verified: str | None = None
    peak_bytes: int | None = None
    python_shares: list[float] = field(default_factory=list)
    launches: list[tuple[str, str, float]] = field(default_factory=list)

    @property
    def median(self) -> float:
        """Seconds; infinite where it failed."""
        return float("inf") if self.failed else statistics.median(self.seconds)


def take_turns(
    contenders: Mapping[str, tuple[Build, Case]], passes: Sequence[str], repeats: int, exact: np.ndarray
) -> dict[tuple[str, str], Measured]:
    """Measure every pass of every engine; return the measurements by pass and engine.

    Args:
        contenders: engines and their cases by name, on one device; "gzkern" is ours.
        passes: of ``STEP`` and ``PREDICT``.
        repeats: samples of each.
        exact: the answers to the first crops.
    """
    found = {(what, name): Measured(case.precision) for what in passes for name, (_, case) in contenders.items()}
    processes = {name: Process(*contender) for name, contender in contenders.items()}
    device = contenders["gzkern"][1].device

    def ask(what: str, name: str, question: str, *arguments: Any) -> Any:
        """None where the engine fails, now or before."""
        measured = found[what, name]
        if measured.failed is None:
            try:
                return processes[name].ask(question, *arguments)
            except RuntimeError as error:
                measured.failed = str(error)
        return None

    try:
        if PREDICT in passes:  # before the weights move
            for name in contenders:
                _judge(found[PREDICT, name], ask(PREDICT, name, "answers"), exact)
        for round_ in range(-_ROUNDS_BEFORE, repeats):
            for name in contenders:
                for what in passes:
                    taken = ask(what, name, "sample", what)
                    if taken is not None and round_ >= 0:
                        found[what, name].seconds.append(taken)
            if STEP in passes and device == "cpu" and round_ >= 0:
                share = ask(STEP, "gzkern", "python_share")
                found[STEP, "gzkern"].python_shares += [] if share is None else [share]
        for (what, name), measured in found.items():
            ask(what, name, "check", what)
            measured.peak_bytes = ask(what, name, "peak_bytes")
            if name == "gzkern" and device == "cuda":
                measured.launches = ask(what, name, "launches", what) or []
    finally:
        for process in processes.values():
            process.close()
    return found


def _judge(measured: Measured, answers: np.ndarray | None, exact: np.ndarray) -> None:
    if answers is None:
        return
    checked = min(len(answers), len(exact))
    error = float(np.abs(answers[:checked] - exact[:checked]).max())
    measured.verified = f"answers within {error:.1e} of float64's"
    if not error <= ANSWERS[measured.precision]:
        measured.failed = f"an answer is off by {error:.1e}"
