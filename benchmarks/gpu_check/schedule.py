"""The order of the items: stage after stage, each item within its limit, the time that is left shared out."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any, Protocol

from .plan import Item, Stage

PASSED, INCOMPLETE, FAILED, CRASHED, TIMED_OUT = "passed", "incomplete", "failed", "crashed", "timed out"
LEFT_OUT, NO_TIME, NO_GPU = "left out", "no time left", "the GPU is lost"

ANSWER = 5.0
"""Seconds until a GPU has answered, PREDICTED: most of it for Python and CuPy to start."""

Result = dict[str, Any]
"""The outcome of an item: its name, stage and status, and once it began also begin, seconds and limit."""

_LOST = (CRASHED, TIMED_OUT)


class Runner(Protocol):
    """A runner of items: as processes, or as a simulation of them."""

    def now(self) -> float:
        """Seconds since the check began."""

    def missing(self, item: Item) -> str | None:
        """Say what an item lacks; None if nothing."""

    def run(self, items: Sequence[tuple[Item, float]]) -> Iterator[Result]:
        """Run items at once, each for at most so many seconds; yield the result of each as it ends."""

    def gpu_answers(self) -> bool:
        """Say whether the GPU still computes."""


def carry_out(
    stages: Sequence[Stage], seconds: float, runner: Runner, done: Collection[str], report: Callable[[Result], None]
) -> None:
    """Run the stages' items.

    Args:
        stages: in order.
        seconds: of the whole check.
        runner: of the items.
        done: names of the items that an earlier call brought to an end; they are passed over.
        report: called with the result of each item, as it ends.
    """
    lost = False

    def refuse(stage: Stage, item: Item, status: str, reason: str | None = None) -> None:
        report({"name": item.name, "stage": stage.name, "status": status, "reason": reason})

    for stage in stages:
        items = []
        for item in stage.items:
            reason = runner.missing(item)
            if reason:
                refuse(stage, item, LEFT_OUT, reason)
            elif item.name not in done:
                items.append(item)
        end = min(seconds, runner.now() + stage.seconds)
        while items:
            group, items = (items, []) if stage.together else (items[:1], items[1:])
            begun = []
            for item in group:
                limit = _limit(item, items, end - runner.now())
                if lost or limit is None:
                    refuse(stage, item, NO_GPU if lost else NO_TIME)
                else:
                    begun.append((item, limit))
            statuses = []
            for result in runner.run(begun) if begun else ():
                report({"name": result["name"], "stage": stage.name, **result})
                statuses.append(result["status"])
            lost = lost or (not set(_LOST).isdisjoint(statuses) and not runner.gpu_answers())


def _limit(item: Item, after: Sequence[Item], left: float) -> float | None:
    """Return the seconds that an item may take of those left; None where it is not worth beginning with.

    Args:
        item: to begin.
        after: items that are to share the time with it.
        left: seconds.
    """
    if not item.share:
        return min(item.limit, left) if left >= item.expected / 2 else None
    fair = left * item.share / (item.share + sum(each.share for each in after))
    return min(max(item.limit, fair), left) if left >= item.limit else None


class Simulation:
    """Items that take the seconds that they are PREDICTED to take, on a clock that nobody waits for.

    Args:
        taking: seconds of items that take others, by name; infinite of one that hangs.
    """

    def __init__(self, taking: dict[str, float] | None = None):
        self._taking, self._now = taking or {}, 0.0

    def now(self) -> float:
        """See :class:`Runner`."""
        return self._now

    def missing(self, item: Item) -> str | None:
        """See :class:`Runner`; the machine of the predictions has everything."""
        return None

    def run(self, items: Sequence[tuple[Item, float]]) -> Iterator[Result]:
        """See :class:`Runner`."""
        begin = self._now
        took = {item.name: self._taking.get(item.name, item.predicted(limit)) for item, limit in items}
        for item, limit in sorted(items, key=lambda each: min(took[each[0].name], each[1])):
            seconds = min(took[item.name], limit)
            self._now = begin + seconds
            status = TIMED_OUT if took[item.name] > limit else PASSED
            yield {"name": item.name, "status": status, "begin": begin, "seconds": seconds, "limit": limit}

    def gpu_answers(self) -> bool:
        """See :class:`Runner`; it takes its time."""
        self._now += ANSWER
        return True
