"""What a GPU does beside its launches one by one: whole graphs of them, and copies from the host, through CuPy."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np


def capture(calls: Sequence[Callable[[], None]], aside: Sequence[bool]) -> Callable[[], None]:
    """A CUDA graph of launches in order, those that go aside on a branch; what launches it on the current stream."""
    from cupy.cuda import Event, Stream

    main, side = Stream(non_blocking=True), Stream(non_blocking=True)
    main.begin_capture()
    for call, beside in zip(calls, aside, strict=True):
        if beside:  # after all that went before on the main stream
            side.wait_event(_recorded(Event(disable_timing=True), main))
        with side if beside else main:
            call()
    if any(aside):
        main.wait_event(_recorded(Event(disable_timing=True), side))
    graph = main.end_capture()
    graph.upload(main)
    main.synchronize()
    return graph.launch


class CudaRing:
    """A :class:`launch.Ring` of page-locked memory, which a stream of its own copies.

    Args:
        slots: of a half.
        arrays: shape and dtype of a slot, by name.
    """

    def __init__(self, slots: int, arrays: Mapping[str, tuple[tuple[int, ...], Any]]):
        import cupy
        import cupyx
        from cupy.cuda import Event, Stream

        self.arrays = {name: cupy.empty((2 * slots, *shape), dtype) for name, (shape, dtype) in arrays.items()}
        """On the device, both halves."""
        self._slots = slots
        self._host = [
            {name: cupyx.empty_pinned((slots, *shape), dtype) for name, (shape, dtype) in arrays.items()}
            for _ in range(2)
        ]
        self._copies = Stream(non_blocking=True)
        self._read, self._copied = ([Event(disable_timing=True) for _ in range(2)] for _ in range(2))

    def host(self, half: int) -> dict[str, np.ndarray]:
        """Where the next values of a half are to be written: (slots, …) by name; waits until they have left it."""
        self._copied[half].synchronize()
        return self._host[half]

    def send(self, half: int) -> None:
        """Copy a half to the device, as soon as the launches that read it before are done."""
        self._copies.wait_event(self._read[half])
        first = half * self._slots
        for name, array in self.arrays.items():
            array[first : first + self._slots].set(self._host[half][name], stream=self._copies)
        self._copied[half].record(self._copies)

    def enter(self, half: int) -> None:
        """Launches from here on read this half, and none the other."""
        from cupy.cuda import get_current_stream

        stream = get_current_stream()
        self._read[1 - half].record(stream)
        stream.wait_event(self._copied[half])


def _recorded(event: Any, stream: Any) -> Any:
    event.record(stream)
    return event
