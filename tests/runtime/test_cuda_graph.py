"""CUDA graphs with the priorities of their nodes, which CuPy cannot instantiate: through a libcuda that is faked."""

import ctypes
import sys
from types import ModuleType, SimpleNamespace

import pytest

from gzkern.runtime import cuda_graph as streams


@pytest.fixture
def calls(monkeypatch):
    """What the runtime was asked for, in order."""
    calls = []
    cuda = ModuleType("cupy.cuda")
    cuda.runtime = SimpleNamespace(
        graphExecDestroy=lambda executable: calls.append(("destroy", executable)),
        graphUpload=lambda executable, stream: calls.append(("upload", executable, stream)),
        graphLaunch=lambda executable, stream: calls.append(("launch", executable, stream)),
    )
    cuda.get_current_stream = lambda: SimpleNamespace(ptr=77)
    monkeypatch.setitem(sys.modules, "cupy.cuda", cuda)
    return calls


def fake_driver(monkeypatch, status):
    """A libcuda whose cuGraphInstantiateWithFlags returns a status; what it was called with."""
    seen = []

    def instantiate(executable, graph, flags):
        seen.append((graph.value, flags.value))
        if status == 0:
            executable._obj.value = 1234
        return status

    monkeypatch.setattr(ctypes, "CDLL", lambda name: SimpleNamespace(cuGraphInstantiateWithFlags=instantiate))
    return seen


def test_a_graph_is_instantiated_by_node_priority(calls, monkeypatch, capsys):
    seen = fake_driver(monkeypatch, 0)
    graph = streams._by_node_priority(SimpleNamespace(graph=55))
    assert seen == [(55, 8)]
    graph.upload(SimpleNamespace(ptr=66))
    graph.launch()
    del graph
    assert calls == [("upload", 1234, 66), ("launch", 1234, 77), ("destroy", 1234)]
    assert capsys.readouterr().err == ""


def no_function(name):
    return SimpleNamespace()


def no_library(name):
    raise OSError("libcuda.so.1: cannot open shared object file")


@pytest.mark.parametrize(
    ("library", "graph", "why"),
    [
        (None, 55, "cuGraphInstantiateWithFlags: 1"),
        (no_function, 55, "no attribute 'cuGraphInstantiateWithFlags'"),
        (no_library, 55, "cannot open shared object file"),
        (None, 0, "this CuPy keeps no captured graph"),
    ],
)
def test_without_priorities_one_line_says_so(calls, monkeypatch, capsys, library, graph, why):
    fake_driver(monkeypatch, 1)
    if library:
        monkeypatch.setattr(ctypes, "CDLL", library)
    captured = SimpleNamespace(graph=graph)
    assert streams._by_node_priority(captured) is captured
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("gzkern: the CUDA graph ignores the priority of its side stream (")
    assert why in line
    assert calls == []
