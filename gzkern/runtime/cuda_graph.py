"""CUDA graphs and asynchronous copies from the host, through CuPy."""

from __future__ import annotations

import ctypes
import sys
import weakref
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from typing import Any

_USE_NODE_PRIORITY = 8  # CUDA_GRAPH_INSTANTIATE_FLAG_USE_NODE_PRIORITY


def capture(calls: Sequence[Callable[[], None]], side_stream: Sequence[bool]) -> Callable[[], None]:
    """Capture launches, in order, as a CUDA graph; those with ``side_stream`` set on a side stream.

    Returns:
        A function that launches the graph on CuPy's current stream.
    """
    from cupy.cuda import Event, Stream

    # The side stream has the lower priority: it fills what the main stream leaves idle, and delays nothing there.
    main, side = Stream(non_blocking=True, priority=-1), Stream(non_blocking=True, priority=0)
    main.begin_capture()
    try:
        for call, beside in zip(calls, side_stream, strict=True):
            if beside:  # after all that went before on the main stream
                side.wait_event(_recorded(Event(disable_timing=True), main))
            with side if beside else main:
                call()
        if any(side_stream):
            main.wait_event(_recorded(Event(disable_timing=True), side))
    except BaseException:
        with suppress(Exception):  # of a capture that is cut short; the first error is the one to be told
            main.end_capture()
        raise
    graph = main.end_capture()
    if any(side_stream):
        graph = _by_node_priority(graph)
    graph.upload(main)
    main.synchronize()
    return graph.launch


class _PrioritisedGraph:
    """An executable CUDA graph whose nodes have the priorities of the streams that they were captured from.

    Args:
        executable: handle of the CUgraphExec.
    """

    def __init__(self, executable: int):
        from cupy.cuda import runtime

        self._executable = executable
        weakref.finalize(self, runtime.graphExecDestroy, executable).atexit = False  # the driver may be gone by then

    def upload(self, stream: Any) -> None:
        """Copy the graph to the GPU ahead of its first launch."""
        from cupy.cuda import runtime

        runtime.graphUpload(self._executable, stream.ptr)

    def launch(self) -> None:
        """Launch on CuPy's current stream."""
        from cupy.cuda import get_current_stream, runtime

        runtime.graphLaunch(self._executable, get_current_stream().ptr)


def _by_node_priority(graph: Any) -> Any:
    """Instantiate a captured graph anew, so that it obeys the priorities of its nodes.

    CuPy instantiates without that flag, and has no function that takes one: the driver's own is called. Where that
    fails, one line says so, and CuPy's graph is returned: right, but the side stream may delay the main one.
    """
    executable = ctypes.c_void_p()
    try:
        instantiate = ctypes.CDLL("libcuda.so.1").cuGraphInstantiateWithFlags
        flags = ctypes.c_ulonglong(_USE_NODE_PRIORITY)
        status = instantiate(ctypes.byref(executable), ctypes.c_void_p(graph.graph), flags) if graph.graph else None
    except (OSError, AttributeError) as error:
        status = error
    if status == 0 and executable.value:
        return _PrioritisedGraph(executable.value)
    why = "this CuPy keeps no captured graph" if status is None else f"cuGraphInstantiateWithFlags: {status}"
    print(f"gzkern: the CUDA graph ignores the priority of its side stream ({why})", file=sys.stderr)
    return graph


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


def _recorded(event: Any, stream: Any) -> Any:
    event.record(stream)
    return event
