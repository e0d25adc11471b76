"""The capture of CUDA graphs: what CUDA refuses meanwhile, and the priorities of the side stream."""

import cupy
import cupyx
import numpy as np
import pytest
from cupy.cuda import Event, Stream
from fake_cupy import libcuda, queues, streams

import gzkern.runtime.cuda_graph
from gzkern.cuda import relu
from gzkern.errors import GzkernError
from gzkern.runtime import cuda_backend
from gzkern.runtime.cuda_graph import capture

CAPTURE_UNSUPPORTED, CAPTURE_INVALIDATED, CAPTURE_UNJOINED, CAPTURE_ISOLATION, CAPTURED_EVENT = 900, 901, 904, 905, 907
ONES = np.ones(64, np.float32)


@pytest.fixture
def x():
    return cuda_backend.backend().asarray(ONES)


@pytest.fixture
def stream():
    """A stream that is captured, and afterwards is not."""
    stream = Stream(non_blocking=True)
    stream.begin_capture()
    with stream:
        yield stream
    if stream.capture:
        with pytest.raises(cupy.cuda.runtime.CUDARuntimeError) as failure:
            stream.end_capture()
        assert failure.value.status == CAPTURE_INVALIDATED


CALLS = {
    "event.synchronize": lambda x: Event().synchronize(),
    "stream.synchronize": lambda x: Stream(non_blocking=True).synchronize(),
    "device.synchronize": lambda x: cupy.cuda.Device().synchronize(),
    "empty": lambda x: cupy.empty((3,), np.float32),
    "empty_pinned": lambda x: cupyx.empty_pinned((3,), np.float32),
    "asnumpy": cupy.asnumpy,
    "set": lambda x: x.set(ONES),
    "set of pageable memory": lambda x: x.set(ONES, stream=cupy.cuda.get_current_stream()),
}


@pytest.mark.parametrize("name", CALLS)
def test_what_synchronises_or_allocates_ends_a_capture(name, x, stream):
    with pytest.raises(cupy.cuda.runtime.CUDARuntimeError) as failure:
        CALLS[name](x)
    assert failure.value.status == CAPTURE_UNSUPPORTED


def test_a_captured_stream_waits_for_nothing_from_before(stream):
    event = Event()
    event.record(Stream(non_blocking=True))
    with pytest.raises(cupy.cuda.runtime.CUDARuntimeError) as failure:
        stream.wait_event(event)
    assert failure.value.status == CAPTURE_ISOLATION


def test_a_branch_that_does_not_come_back(x, stream):
    event, side = Event(), Stream(non_blocking=True)
    event.record(stream)
    side.wait_event(event)
    with side:
        x.fill(0)
    with pytest.raises(cupy.cuda.runtime.CUDARuntimeError) as failure:
        stream.end_capture()
    assert failure.value.status == CAPTURE_UNJOINED


@pytest.mark.parametrize("wait", [Event.synchronize, Stream(non_blocking=True).wait_event])
def test_nobody_waits_for_an_event_of_a_graph(wait, stream):
    event = Event()
    event.record(stream)
    stream.end_capture()
    with pytest.raises(cupy.cuda.runtime.CUDARuntimeError) as failure:
        wait(event)
    assert failure.value.status == CAPTURED_EVENT


def calls(x, y, z):
    """Three kernels, the second on the side stream; prepared, since to compile one is no part of a capture."""
    backend = cuda_backend.backend()
    function = backend.get_function("relu", "relu_forward")
    geometry = (1,), (64,)
    arguments = (x, y), (x, z), (y, x)
    return [lambda pair=pair: function(*geometry, (*pair, np.uint32(64))) for pair in arguments]


@pytest.fixture
def launch(x):
    backend = cuda_backend.backend()
    return capture(calls(x, backend.empty(x.shape), backend.empty(x.shape)), [False, True, False])


def test_a_graph_obeys_the_priorities_of_its_streams(launch):
    executable = streams.executables[launch.__self__._executable]
    assert executable.flags == 8
    assert [node.priority for node in executable.nodes] == [-1, 0, -1]
    assert [[executable.nodes.index(other) for other in node.after] for node in executable.nodes] == [[], [0], [0]]


def test_an_executable_graph_is_destroyed_with_its_owner(x):
    before = set(streams.executables)
    backend = cuda_backend.backend()
    launch = capture(calls(x, backend.empty(x.shape), backend.empty(x.shape)), [False, True, False])
    assert len(streams.executables) == len(before) + 1
    launch()
    del launch
    assert set(streams.executables) == before
    assert (backend.asnumpy(x) == 1).all()  # a launch that is queued goes on


def test_without_the_driver_s_function_a_graph_is_right_and_has_no_flags(x, monkeypatch, capsys):
    monkeypatch.delattr(libcuda._Driver, "cuGraphInstantiateWithFlags")
    backend = cuda_backend.backend()
    y, z = backend.empty(x.shape), backend.empty(x.shape)
    launch = capture(calls(x, y, z), [False, True, False])
    assert "ignores the priority" in capsys.readouterr().err
    launch()
    assert all((backend.asnumpy(array) == 1).all() for array in (x, y, z))


def test_a_graph_without_a_branch_needs_no_flags(x):
    backend = cuda_backend.backend()
    launch = capture(calls(x, backend.empty(x.shape), backend.empty(x.shape)), [False] * 3)
    assert isinstance(launch.__self__, streams.Graph)


@pytest.fixture
def each_order():
    yield ["early", "late", *(f"random:{seed}" for seed in range(8))]
    queues.set_policy("late")


def results(order, bug):
    """Run a graph whose side branch writes to memory that the main stream reads after their join."""
    queues.set_policy(order)
    backend = cuda_backend.backend()
    x, y = backend.asarray(-ONES), backend.asarray(-ONES)
    function = backend.get_function("relu", "relu_forward")
    main, side = Stream(non_blocking=True), Stream(non_blocking=True)
    one = backend.asarray(ONES)
    main.begin_capture()
    fork, join = Event(), Event()
    fork.record(main)
    side.wait_event(fork)
    with side:
        function((1,), (64,), (one, x, np.uint32(64)))
    join.record(side)
    if not bug:
        main.wait_event(join)
    with main:
        function((1,), (64,), (x, y, np.uint32(64)))
    main.wait_event(join)
    main.end_capture().launch()
    return (backend.asnumpy(y) == 1).all()


def test_a_launch_that_does_not_wait_for_the_side_branch_shows(each_order):
    assert all(results(order, bug=False) for order in each_order)
    assert not all(results(order, bug=True) for order in each_order if order.startswith("random"))
    assert not results("late", bug=True)


def test_an_allocation_in_a_launch_spoils_a_recorded_step(x, monkeypatch):
    """As gzkern would make one: the error is told, and the capture that it spoiled is over."""
    backend = cuda_backend.backend()
    with pytest.raises(GzkernError, match=r"array of .* not permitted when stream is capturing"):
        gzkern.runtime.cuda_graph.capture([lambda: relu.forward(x)], [False])
    assert not Stream.captures
    assert (backend.asnumpy(relu.forward(x)) == 1).all()
