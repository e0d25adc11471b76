"""A fake CuPy, as a pytest plugin: its arrays are strict as CuPy's are, its launches go to the emulator.

``pytest -p fake_cupy -m gpu`` runs the tests that need a GPU without one. What they prove of kernels the emulated
device proves anyway; here it is that the host's code on the way to a GPU mixes up no arrays of host and device, and
that the tests themselves would run.
"""

import re
import sys
import time
from functools import partial
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import ClassVar

import numpy as np

import gzkern.cuda.device
from gzkern.emulator import backend

_ALIGNMENT = 512


class ndarray:
    """Memory of the device: NumPy cannot see into it, and only arrays of the device can be copied into it."""

    __array_ufunc__ = None

    def __init__(self, held):
        self.held = held

    shape = property(lambda self: self.held.shape)
    dtype = property(lambda self: self.held.dtype)
    size = property(lambda self: self.held.size)
    ndim = property(lambda self: self.held.ndim)
    nbytes = property(lambda self: self.held.nbytes)
    strides = property(lambda self: self.held.strides)
    flags = property(lambda self: SimpleNamespace(c_contiguous=self.held.flags.c_contiguous))
    device = property(lambda self: SimpleNamespace(id=0))
    data = property(lambda self: SimpleNamespace(ptr=self.held.__array_interface__["data"][0]))

    def __array__(self, *arguments, **options):
        raise TypeError("implicit conversion to a NumPy array is not allowed")

    def __len__(self):
        return len(self.held)

    def __getitem__(self, key):
        return ndarray(np.asarray(self.held[key]))

    def __setitem__(self, key, value):
        raise TypeError("a kernel of CuPy's own would be launched for this")

    def reshape(self, *shape):
        return ndarray(self.held.reshape(*shape))

    def view(self, dtype):
        return ndarray(self.held.view(dtype))

    def set(self, values, stream=None):
        assert type(values) is np.ndarray
        assert values.flags.c_contiguous
        assert (values.shape, values.dtype) == (self.shape, self.dtype)
        assert not (Stream.current and Stream.current[-1].graph), "a copy while capturing"
        self.held[...] = values

    def fill(self, value):
        assert value == 0, "anything else is a kernel of CuPy's own"
        self.held.fill(0)


ndarray.__module__ = "cupy"


def empty(shape, dtype):
    dtype = np.dtype(dtype)
    size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    memory = np.empty(size + _ALIGNMENT, np.uint8)
    offset = -memory.__array_interface__["data"][0] % _ALIGNMENT
    return ndarray(memory[offset : offset + size].view(dtype).reshape(shape))


def asarray(array):
    if isinstance(array, ndarray):
        return array
    array = np.asarray(array)
    copy = empty(array.shape, array.dtype)
    copy.held[...] = array
    return copy


def asnumpy(array):
    return array.held.copy() if isinstance(array, ndarray) else np.asarray(array)


class Device:
    compute_capability = "80"

    def __init__(self, number=0):
        self.id = number

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass


class Module:
    """A "cubin" of the fake NVRTC is the name of its source, and its tile."""

    def load(self, image):
        assert type(image) is bytes
        name, _, tile = image.rstrip(b"\0").decode().partition("#")
        self.tile = tuple(map(int, tile.split(","))) if tile else ()
        path = Path(name)
        self.file = path.stem if path.parent.name == "kernels" and not path.is_absolute() else path

    def get_function(self, name):
        def function(grid, block, args, shared_mem=0):
            values = [argument.held if isinstance(argument, ndarray) else argument for argument in args]
            assert all(isinstance(value, np.ndarray | np.generic) for value in values)
            assert not any(isinstance(argument, np.ndarray) for argument in args), "an array of the host in a launch"
            call = partial(backend.get_function(self.file, name, self.tile), grid, block, values, shared_mem)
            graph = Stream.current[-1].graph if Stream.current else None
            if graph:
                graph.calls.append(call)
            else:
                call()

        function.ptr = 0
        return function


def namespace(name, **attributes):
    module = ModuleType(name)
    vars(module).update(attributes)
    sys.modules[name] = module
    return module


TILE = re.compile(r"#define TILE (.*)\n")
ATTRIBUTES = (
    *("MultiProcessorCount", "ClockRate", "MemoryClockRate", "L2CacheSize", "GlobalMemoryBusWidth"),
    "MaxSharedMemoryPerBlockOptin",
)
ATTRIBUTE_VALUES = {"MultiProcessorCount": 132, "MaxSharedMemoryPerBlockOptin": 227 << 10}


class Stream:
    """What is launched on it happens at once; while it is captured, at each launch of its graph."""

    ptr = 0
    current: ClassVar[list] = []

    def __init__(self, non_blocking=False, priority=None):
        assert non_blocking, "a stream that waits for the default one"
        self.graph = None

    def __enter__(self):
        Stream.current.append(self)
        return self

    def __exit__(self, *error):
        Stream.current.pop()

    def begin_capture(self):
        assert self.graph is None
        self.graph = Graph()
        self.graph.streams.add(self)

    def wait_event(self, event):
        if event.graph is None:
            return
        if self.graph is None:  # joins the capture
            self.graph = event.graph
            self.graph.streams.add(self)
        self.graph.streams.discard(event.stream)
        self.graph.streams.add(self)

    def end_capture(self):
        graph, self.graph = self.graph, None
        assert graph.streams == {self}, "a branch that does not come back"
        return graph

    def synchronize(self):
        assert self.graph is None, "nobody can wait for what is captured"


class Graph:
    """Launches, and the streams that have something to say at the end of the capture."""

    def __init__(self):
        self.calls, self.streams = [], set()

    def upload(self, stream):
        assert stream.graph is None

    def launch(self):
        for call in self.calls:
            call()


class Event:
    """Time passes at the rate of the host's clock."""

    seconds = graph = stream = None

    def __init__(self, disable_timing=False):
        self.timed = not disable_timing

    def record(self, stream=None):
        self.stream, self.graph = stream, stream and stream.graph
        self.seconds = time.perf_counter()

    def synchronize(self):
        assert self.graph is None


def get_elapsed_time(start, stop):
    assert start.timed
    assert stop.timed
    return 1e3 * (stop.seconds - start.seconds)


runtime = namespace(
    "cupy.cuda.runtime",
    CUDARuntimeError=type("CUDARuntimeError", (RuntimeError,), {}),
    runtimeGetVersion=lambda: 13000,
    getDeviceCount=lambda: 1,
    memGetInfo=lambda: (1 << 39, 1 << 40),
    getDeviceProperties=lambda number: {"name": b"a fake GPU", "totalGlobalMem": 1 << 40},
    deviceGetAttribute=lambda attribute, number: ATTRIBUTE_VALUES.get(ATTRIBUTES[attribute], 1_000_000),
    **{f"cudaDevAttr{name}": number for number, name in enumerate(ATTRIBUTES)},
)
driver = namespace(
    "cupy.cuda.driver",
    CUDADriverError=type("CUDADriverError", (RuntimeError,), {}),
    CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES=8,
    funcGetAttribute=lambda attribute, function: 48 << 10,
    funcSetAttribute=lambda function, attribute, value: None,
)
nvrtc = namespace(
    "cupy.cuda.nvrtc",
    NVRTCError=type("NVRTCError", (RuntimeError,), {}),
    getVersion=lambda: (13, 99_999),  # of no real compiler, so that its "cubins" are taken for no real ones
    getSupportedArchs=lambda: (80, 90),
    createProgram=lambda text, name, headers, names: f"{name}#{tile[1] if (tile := TILE.match(text)) else ''}",
    compileProgram=lambda program, options: None,
    getPTX=lambda program: b"",
    getCUBIN=lambda program: program.encode(),
    getProgramLog=lambda program: "",
    destroyProgram=lambda program: None,
)
function = namespace("cupy.cuda.function", Module=Module)
memory = namespace("cupy.cuda.memory", OutOfMemoryError=type("OutOfMemoryError", (MemoryError,), {}))
namespace("cupyx", empty_pinned=np.empty)
namespace("cupyx.profiler", time_range=None)
DEFAULT_STREAM = Stream(non_blocking=True)
cuda = namespace(
    "cupy.cuda",
    runtime=runtime,
    driver=driver,
    nvrtc=nvrtc,
    function=function,
    Device=Device,
    set_allocator=lambda allocator: None,
    Event=Event,
    get_elapsed_time=get_elapsed_time,
    get_current_stream=lambda: Stream.current[-1] if Stream.current else DEFAULT_STREAM,
    Stream=Stream,
    nvtx=SimpleNamespace(available=False),
    memory=memory,
)
namespace("cupy", __version__="14", cuda=cuda, ndarray=ndarray, empty=empty, asarray=asarray, asnumpy=asnumpy)
gzkern.cuda.device.driver_version = lambda: (13, 0)
