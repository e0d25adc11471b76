"""Asynchronous copies from page-locked memory of the host to a GPU, through CuPy."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any


class CudaStagingBuffer:
    """A :class:`backend.StagingBuffer` of page-locked memory, which a stream of its own copies.

    Args:
        slots: of a block.
        blocks: on the host.
        arrays: shape and dtype of a slot, by name.
        reporting: the GPU as CuPy's current one, and what it was doing in the message of an error.
    """

    def __init__(
        self,
        slots: int,
        blocks: int,
        arrays: Mapping[str, tuple[tuple[int, ...], Any]],
        reporting: Callable[[str], AbstractContextManager[None]],
    ):
        import cupy
        import cupyx
        from cupy.cuda import Event, Stream, get_current_stream

        self.arrays = {name: cupy.empty((2 * slots, *shape), dtype) for name, (shape, dtype) in arrays.items()}
        self.host = {
            name: cupyx.empty_pinned((blocks * slots, *shape), dtype) for name, (shape, dtype) in arrays.items()
        }
        self._slots, self._blocks, self._reporting = slots, blocks, reporting
        self._copies = Stream(non_blocking=True)
        self._read, self._copied = ([Event(disable_timing=True) for _ in range(count)] for count in (2, blocks))
        for event in self._read:  # their memory may be in use by what was launched before
            event.record(get_current_stream())

    def send(self, block: int) -> None:
        """Copy a block to the device, as soon as the launches that read the one in its place are done."""
        to, start = block % 2 * self._slots, block % self._blocks * self._slots
        with self._reporting("copying to the GPU"):
            self._copies.wait_event(self._read[block % 2])
            for name, array in self.arrays.items():
                values = self.host[name][start : start + self._slots]
                array[to : to + self._slots].set(values, stream=self._copies)
            self._copied[block % self._blocks].record(self._copies)

    def wait_sent(self, block: int) -> None:
        """Wait for the copy of a block."""
        with self._reporting("a step, or a copy to the GPU"):
            self._copied[block % self._blocks].synchronize()

    def enter(self, block: int) -> None:
        """Launches from here on read this block, and none the one before."""
        from cupy.cuda import get_current_stream

        with self._reporting("a step"):
            stream = get_current_stream()
            self._read[1 - block % 2].record(stream)
            stream.wait_event(self._copied[block % self._blocks])

    def close(self) -> None:
        """Wait for the copies under way, whose memory is about to be given back."""
        with self._reporting("copying to the GPU"):
            self._copies.synchronize()
