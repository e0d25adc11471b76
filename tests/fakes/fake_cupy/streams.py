"""Streams, events, and the capture of graphs.

Streams are non-blocking, so the default stream is one like the others: nothing waits for it on its own. While any of
them is captured, what synchronises or allocates fails, as in CUDA's strictest mode of capturing; CuPy's own is lax.
"""

import time
from itertools import count
from typing import ClassVar
from weakref import WeakValueDictionary

from . import errors
from .queues import Queue, topological

_handles = count(0x1000)
_streams, graphs = WeakValueDictionary(), WeakValueDictionary()  # by handle
executables = {}  # by handle, until they are destroyed


class Stream:
    stack: ClassVar[list] = []
    captures: ClassVar[set] = set()

    def __init__(self, non_blocking=False, priority=0):
        assert non_blocking, "a stream that waits for the default one"
        self.ptr, self.priority = next(_handles), priority
        _streams[self.ptr] = self
        self.queue, self.capture = Queue(), None

    def __enter__(self):
        Stream.stack.append(self)
        return self

    def __exit__(self, *error):
        Stream.stack.pop()

    def put(self, run, name):
        """Queue work, or make it a node of the graph that is captured."""
        errors.check()
        if self.capture:
            self.capture.add(self, run, name)
        else:
            self.queue.put(run)

    def wait_event(self, event):
        errors.check()
        if event.capture:
            event.refuse_after_its_capture()
            event.capture.join(self, event.nodes)
        elif self.capture:
            raise self.capture.fail(errors.CAPTURE_ISOLATION)
        elif event.work and not event.work.done:
            self.queue.put(lambda: None, (event.work,))

    def synchronize(self):
        refuse_while_capturing()
        self.queue.finish()

    def begin_capture(self):
        assert self.capture is None
        self.capture = Capture(self)
        Stream.captures.add(self.capture)

    def end_capture(self):
        assert self.capture.origin is self
        return self.capture.end()


default = Stream(non_blocking=True)
default.ptr = 0


def current():
    return Stream.stack[-1] if Stream.stack else default


def refuse_while_capturing():
    """Fail as CUDA does where a call would synchronise or allocate: what is captured is lost."""
    errors.check()
    if Stream.captures:
        raise next(iter(Stream.captures)).fail(errors.CAPTURE_UNSUPPORTED)


class Node:
    """A launch or copy of a graph."""

    def __init__(self, run, name, priority, after):
        self.run, self.name, self.priority, self.after = run, name, priority, after


class Capture:
    """A graph in the making: its nodes, and those that the next one of each stream waits for."""

    def __init__(self, origin):
        self.origin, self.nodes, self.ends = origin, [], {origin: []}
        self._failed = False

    def fail(self, status):
        self._failed = True
        return errors.CUDARuntimeError(status)

    def check(self):
        if self._failed:
            raise errors.CUDARuntimeError(errors.CAPTURE_INVALIDATED)

    def add(self, stream, run, name):
        self.check()
        node = Node(run, name, stream.priority, tuple(self.ends[stream]))
        self.nodes.append(node)
        self.ends[stream] = [node]

    def join(self, stream, nodes):
        self.check()
        stream.capture = self
        ends = self.ends.setdefault(stream, [])
        ends.extend(node for node in nodes if node not in ends)

    def end(self):
        for stream in self.ends:
            stream.capture = None
        Stream.captures.discard(self)
        self.check()
        last = self.ends[self.origin]
        if set(self.nodes) - _ancestors(last):
            raise errors.CUDARuntimeError(errors.CAPTURE_UNJOINED)
        return Graph(self.nodes, last)


def _ancestors(nodes):
    found, left = set(), list(nodes)
    while left:
        if (node := left.pop()) not in found:
            found.add(node)
            left.extend(node.after)
    return found


class Graph:
    """A captured graph, of which CuPy makes an executable one without flags; ``graph`` is its handle."""

    def __init__(self, nodes, last):
        self.nodes, self.last = nodes, last
        self.graph = next(_handles)
        graphs[self.graph] = self
        self._executable = Executable(self, flags=0)

    def upload(self, stream):
        self._executable.upload(stream)

    def launch(self, stream=None):
        self._executable.launch(stream or current())


class Executable:
    """An instantiated graph and its flags."""

    def __init__(self, graph, flags):
        self.nodes, self._last, self.flags = graph.nodes, graph.last, flags

    def upload(self, stream):
        stream.put(lambda: None, "upload")

    def launch(self, stream):
        assert stream.capture is None, "a graph in a graph"
        for node in topological(self.nodes, self._last):
            stream.put(node.run, node.name)


def instantiate(graph, flags):
    """The handle of a new executable graph."""
    handle = next(_handles)
    executables[handle] = Executable(graphs[graph], flags)
    return handle


def stream_at(pointer):
    return _streams[pointer] if pointer else default


class Event:
    """``work`` is what was recorded last; ``capture`` and ``nodes`` where that was captured."""

    def __init__(self, disable_timing=False):
        self.timed = not disable_timing
        self.work, self.capture, self.nodes, self.seconds = None, None, (), None

    def record(self, stream=None):
        errors.check()
        stream = stream or current()
        self.capture = stream.capture
        if self.capture:
            self.capture.check()
            self.nodes = tuple(self.capture.ends[stream])
        else:
            self.work = stream.queue.put(self._note_time)

    def synchronize(self):
        refuse_while_capturing()
        self.refuse_after_its_capture()
        if self.work and not self.work.done:
            self.work.queue.finish(self.work)

    def refuse_after_its_capture(self):
        """Nobody can wait for an event of a graph but in its capture."""
        if self.capture and self.capture not in Stream.captures:
            raise errors.CUDARuntimeError(errors.CAPTURED_EVENT)

    def _note_time(self):
        self.seconds = time.perf_counter()


def get_elapsed_time(start, stop):
    assert start.timed
    assert stop.timed
    assert start.work.done
    assert stop.work.done
    return 1e3 * (stop.seconds - start.seconds)
