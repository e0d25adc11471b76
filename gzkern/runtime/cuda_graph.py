"""CUDA graphs with a side stream and the priorities of their nodes, through CuPy."""

from __future__ import annotations

import ctypes
import sys
import weakref
from collections.abc import Callable, Sequence
from contextlib import suppress
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


def _recorded(event: Any, stream: Any) -> Any:
    event.record(stream)
    return event
