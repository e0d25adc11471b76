"""Ctrl-C and SIGTERM as a request to stop after the current step."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def stop_request() -> Iterator[threading.Event]:
    """Yield an event that Ctrl-C or SIGTERM sets, so that no step is cut in two; a second signal interrupts at once.

    Outside the main thread signals cannot be handled, and the event is never set.
    """
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def handler(number: int, _: Any) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    try:
        for number in before:
            signal.signal(number, handler)
        yield stop
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)
