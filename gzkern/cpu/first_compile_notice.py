"""Word of the first start on a machine, in which the code of the CPU is compiled."""

from __future__ import annotations

import sys
from functools import cache


@cache
def say_when_compiling() -> None:
    """From now on say once, on stderr, when code of this package is compiled because Numba's cache has it not."""
    from numba.core import event

    class Word(event.Listener):
        said = False

        def on_start(self, event: event.Event) -> None:
            if not self.said and event.data["dispatcher"].py_func.__module__.startswith(f"{__package__}."):
                self.said = True
                print("gzkern: compiling for this machine, once; it takes up to a minute", file=sys.stderr, flush=True)

        def on_end(self, event: event.Event) -> None:
            pass

    event.register("numba:compile", Word())
