"""Doing something with each of many items ahead of a reader, in threads, in order and in bounded memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def work_ahead(
    work: Callable[[_Item], _Result], items: Iterable[_Item], *, workers: int, most: int
) -> Generator[_Result, None, None]:
    """Yield ``work(item)`` for each item, in order.

    The threads end with the generator, after what they are at.

    Args:
        work: done by several threads at a time; what it raises is raised in its turn.
        items: what is worked at.
        workers: threads.
        most: results that may be ready or in work, at least 1.
    """
    window: deque[Future[_Result]] = deque()
    executor = ThreadPoolExecutor(workers)
    try:
        for item in items:
            window.append(executor.submit(work, item))
            if len(window) == most:
                yield window.popleft().result()
        while window:
            yield window.popleft().result()
    finally:
        executor.shutdown(cancel_futures=True)
