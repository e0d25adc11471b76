"""The notice that Numba compiles, at the first call on a machine."""

from __future__ import annotations

import sys
from functools import cache


@cache
def print_first_compile_notice() -> None:
    """Print one line on stderr when Numba compiles code of this package, because its cache on disk lacks it."""
    from numba.core import event

    class Notice(event.Listener):
        printed = False

        def on_start(self, event: event.Event) -> None:
            if not self.printed and event.data["dispatcher"].py_func.__module__.startswith("gzkern."):
                self.printed = True
                print("gzkern: compiling for this machine, once; it takes up to a minute", file=sys.stderr, flush=True)

        def on_end(self, event: event.Event) -> None:
            pass

    event.register("numba:compile", Notice())
