"""Silence for the warnings of libraries, in one thread and for a while."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager


class _Messages(threading.local):
    """Stands in for the pattern of a filter: matches any message in silent threads, and none in others."""

    silent = False

    def match(self, message: str) -> bool:
        return self.silent


_messages = _Messages()
_FILTER = ("ignore", _messages, Warning, None, 0)


@contextmanager
def silence() -> Iterator[None]:
    """Ignore all warnings of this thread inside the block.

    ``warnings.catch_warnings`` replaces the filters of all threads, and puts back what another has replaced since.
    Here one filter stays for good and looks at the thread.
    """
    if _FILTER not in warnings.filters:  # gone where the user's catch_warnings ended
        warnings.filters.insert(0, _FILTER)  # type: ignore[attr-defined]
    before, _messages.silent = _messages.silent, True
    try:
        yield
    finally:
        _messages.silent = before
