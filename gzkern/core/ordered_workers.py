"""Threads that do numbered tasks; a reader takes the results in order, and bounds how many are begun before it."""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from ..errors import GzkernError

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


@dataclass
class _State:
    """State that the reader and the threads share; ``lock`` guards all of it."""

    stop: int
    lock: threading.Lock = field(default_factory=threading.Lock)
    next: int = 0
    allowed: int = 0
    closed: bool = False
    results: dict[int, Any] = field(default_factory=dict)
    working: int = 0
    working_since: float = 0.0
    done: int = 0
    busy_s: float = 0.0
    idle_s: float = 0.0
    idle_since: dict[int, float] = field(default_factory=dict)  # by thread, while it waits

    def __post_init__(self) -> None:
        self.for_workers, self.for_reader = threading.Condition(self.lock), threading.Condition(self.lock)

    @property
    def ended(self) -> bool:
        """True if no task will begin any more."""
        return self.closed or self.next >= self.stop


@dataclass(frozen=True)
class _Failure:
    error: BaseException


class OrderedWorkers:
    """The tasks 0 to ``stop`` − 1, begun in order by ``workers`` threads, as far as the reader allows.

    After an exception no further task is begun, and the reader meets it in its turn. The threads end with the last
    task, with :meth:`close`, with the last reference to this object, or with the interpreter. They belong to the
    process that made them: in a fork the calls raise an error.

    Args:
        work: does a task, given its number; it must not refer to this object, which would then never be forgotten.
        stop: the number of tasks.
        workers: threads, at least one.
        name: of the threads.

    Raises:
        GzkernError: the system cannot start so many threads.
    """

    def __init__(self, work: Callable[[int], Any], stop: int, workers: int, name: str):
        self._state, self._process, self._name = _State(stop), os.getpid(), name
        self._taken = 0  # the tasks before it
        threads = [
            threading.Thread(target=_work, args=(self._state, work), name=f"{name}-{number}", daemon=True)
            for number in range(min(workers, stop))
        ]
        self._close = weakref.finalize(self, _end, self._state, threads, self._process)
        try:
            for thread in threads:
                thread.start()
        except RuntimeError as error:
            self.close()
            raise GzkernError(f"{workers} threads cannot be started ({error}); take fewer --workers") from None

    def allow(self, stop: int) -> None:
        """Let the tasks before this one begin."""
        self._require_own_process()
        with self._state.lock:
            self._state.allowed = max(self._state.allowed, stop)
            self._state.for_workers.notify_all()

    def take(self, task: int) -> Any:
        """Wait for a task and return its result, which is kept no longer.

        Raises:
            GzkernError: it is not allowed to begin, it was taken or never will be done, or the threads are another
                process's.
            BaseException: what the task raised.
        """
        self._require_own_process()
        state = self._state
        with state.lock:
            if task < self._taken:
                raise GzkernError(f"task {task} of {self._name} was taken already")
            if task >= state.allowed:
                raise GzkernError(f"task {task} of {self._name} waits for the reader, who waits for it")
            state.for_reader.wait_for(lambda: task in state.results or state.closed)
            if task not in state.results:
                raise GzkernError(f"the threads {self._name} were ended before task {task}")
            self._taken, result = task + 1, state.results.pop(task)
        if isinstance(result, _Failure):
            self.close()
            raise result.error
        return result

    def _require_own_process(self) -> None:
        """Refuse a fork, before the lock is asked for: there it may be held by nobody, for ever."""
        if os.getpid() != self._process:
            raise GzkernError(f"the threads {self._name} are those of process {self._process}, from which this one was "
                              "forked; begin anew here")  # fmt: skip

    @property
    def ready(self) -> int:
        """Tasks that are done and not taken."""
        return len(self._state.results)

    def take_times(self) -> tuple[int, float, float]:
        """Report the work since this was last called.

        Returns:
            Tasks done; seconds in which at least one thread was at work; seconds for which threads waited for the
            reader, summed over the threads.
        """
        self._require_own_process()
        state = self._state
        with state.lock:
            now = time.perf_counter()
            if state.working:
                state.busy_s += now - state.working_since
                state.working_since = now
            state.idle_s += sum(now - since for since in state.idle_since.values())
            state.idle_since = dict.fromkeys(state.idle_since, now)
            times = state.done, state.busy_s, state.idle_s
            state.done, state.busy_s, state.idle_s = 0, 0.0, 0.0
        return times

    def close(self) -> None:
        """End the threads, after the tasks in work."""
        self._close()


def _work(state: _State, work: Callable[[int], Any]) -> None:
    me = threading.get_ident()
    while True:
        with state.lock:
            state.idle_since[me] = time.perf_counter()
            state.for_workers.wait_for(lambda: state.ended or state.next < state.allowed)
            if state.ended:
                del state.idle_since[me]
                return
            task = state.next
            state.next += 1
            now = time.perf_counter()
            state.idle_s += now - state.idle_since.pop(me)
            if not state.working:
                state.working_since = now
            state.working += 1
        try:
            result = work(task)
        except BaseException as error:  # also SystemExit: without a result the reader would wait for ever
            result = _Failure(error)
        with state.lock:
            state.done += 1
            state.working -= 1
            if not state.working:
                state.busy_s += time.perf_counter() - state.working_since
            state.results[task] = result
            if isinstance(result, _Failure):
                state.stop = state.next
                state.for_workers.notify_all()
            state.for_reader.notify()


def _end(state: _State, threads: list[threading.Thread], process: int) -> None:
    if os.getpid() != process:  # a fork, where the lock may be held by nobody, for ever
        return
    if threading.current_thread() in threads:  # collected there, with its lock perhaps
        state.closed = True
        return
    with state.lock:
        state.closed = True
        state.for_workers.notify_all()
        state.for_reader.notify_all()
    for thread in threads:
        if thread.ident is not None:
            thread.join()


def prefetch(
    work: Callable[[_Item], _Result], items: Sequence[_Item], *, workers: int, most: int
) -> Generator[_Result, None, None]:
    """Yield ``work(item)`` for each item, in order, done by threads.

    The threads end with the generator, after the items in work.

    Args:
        work: called by several threads at a time; what it raises is raised in its turn.
        items: a task each.
        workers: threads, at least one.
        most: results that may be ready or in work, at least 1.
    """
    tasks = OrderedWorkers(lambda number: work(items[number]), len(items), workers, "gzkern-prefetch")
    try:
        for number in range(len(items)):
            tasks.allow(number + most)
            yield tasks.take(number)
    finally:
        tasks.close()
