"""NVIDIA's cuDNN through nvidia-cudnn-frontend: every plan that its heuristics offer, in N,C,H,W and in N,H,W,C.

In fp32 and fp32x3 all plans on tensor cores are left out, as PyTorch leaves them out without TF32; none may round its
inputs further. Of a convolution with ReLU or pool there are separate calls (the convolution; bias and ReLU in one call;
the pool), and where cuDNN takes it as one graph, convolution, bias and ReLU fused. The gradient that comes through ReLU
and pool counts with the gradient of the weights, and is there already for that of the data. The frontend's graphs have
no pools: those are calls of the older API.
"""

from __future__ import annotations

import ctypes
import importlib.util
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import numpy as np

from gzkern.core.bfloat16 import from_bfloat16, to_bfloat16
from gzkern.core.shapes import BACKWARD_DATA, FORWARD
from gzkern.device import Device

from ..harness.problems.conv2d import ConvProblem
from ..harness.problems.data import DISTINCT
from ..harness.problems.operation import OpProblem
from ..harness.problems.problem import Contender

Call = Callable[[], None]
Shape = tuple[int, ...]
LAYOUTS = ("N,C,H,W", "N,H,W,C")
_MOST_WORKSPACE = 8 << 30  # bytes
_FLOAT, _BFLOAT16 = 0, 9  # cudnnDataType_t
_MAX, _RELU, _PROPAGATE_NAN = 0, 1, 1  # cudnnPoolingMode_t, cudnnActivationMode_t, cudnnNanPropagation_t


def missing(device: Device) -> str | None:
    """Say why cuDNN cannot be measured; None if it can."""
    if device.name != "cuda":
        return "cuDNN runs on a GPU alone"
    if importlib.util.find_spec("cudnn") is None:
        return 'nvidia-cudnn-frontend is not installed; pip install "gzkern[bench-gpu]"'
    try:
        session()
    except (ImportError, OSError, RuntimeError) as error:
        return f"cuDNN cannot be used ({str(error).strip().splitlines()[0]}); pip install nvidia-cudnn-cu13"
    return None


def contenders(problem: Any, device: Device) -> Iterator[Contender]:
    """Yield one a layout and plan."""
    for layout in LAYOUTS:
        if isinstance(problem, ConvProblem):
            yield from _convolution(problem, device, layout)
        elif isinstance(problem, OpProblem) and problem.name == "maxpool2d":
            yield from _pools(problem, device, layout)


class Session:
    """A handle on the default stream, the library itself, and memory for plans to work in."""

    def __init__(self) -> None:
        import cudnn
        import cupy

        self.cudnn = cudnn
        self.handle = cudnn.create_handle()
        cudnn.set_stream(handle=self.handle, stream=cupy.cuda.get_current_stream().ptr)
        self.shared_library = shared_library()
        self._workspace: Any = None

    def workspace(self, size: int) -> int:
        """The address of so many bytes, the same for all plans."""
        import cupy

        if self._workspace is None or self._workspace.nbytes < size:
            self._workspace = None
            self._workspace = cupy.empty((max(size, 1),), np.uint8)
        return int(self._workspace.data.ptr)

    def call(self, name: str, *arguments: Any) -> None:
        """A function of the older API.

        Raises:
            RuntimeError: its status.
        """
        status = getattr(self.shared_library, name)(*arguments)
        if status:
            raise RuntimeError(f"{name} returned {status}")


@lru_cache(maxsize=1)
def session() -> Session:
    """The session of this process."""
    return Session()


def shared_library() -> Any:
    """The cuDNN that the frontend has loaded."""
    return ctypes.CDLL("libcudnn.so.9")


class Tensor:
    """An array under cuDNN's extents (N, C, H, W), in a layout; ``host`` is in N,C,H,W, None leaves it undefined."""

    def __init__(self, device: Device, shape: Shape, layout: str, bfloat16: bool, host: np.ndarray | None = None):
        import cupy

        self.shape, self.bfloat16 = shape, bfloat16
        self.strides = strides(shape, layout)
        self._device, self._last = device, layout == "N,H,W,C"
        N, C, H, W = shape
        if host is None:
            stored = (N, H, W, C) if self._last else shape
            self._array = cupy.empty(stored, np.uint16 if bfloat16 else np.float32)
        else:
            some = host[:DISTINCT]  # which the others repeat
            turned = np.ascontiguousarray(some.transpose(0, 2, 3, 1) if self._last else some)
            turned = np.tile(turned, (-(-N // len(turned)), 1, 1, 1))[:N]
            self._array = device.asarray(to_bfloat16(turned) if bfloat16 else turned)
        self.pointer = int(self._array.data.ptr)

    def images(self, images: list[int] | None = None) -> np.ndarray:
        """On the host as float32 in N,C,H,W, some images or all."""
        parts = [self._array] if images is None else [self._array[i : i + 1] for i in images]
        host = np.concatenate([self._device.asnumpy(part) for part in parts])
        host = from_bfloat16(host) if self.bfloat16 else host
        return host.transpose(0, 3, 1, 2) if self._last else host

    def described(self) -> tuple[ctypes.c_void_p, ctypes.c_void_p]:
        """Descriptor and address, as the older API takes them."""
        found = ctypes.c_void_p()
        session().call("cudnnCreateTensorDescriptor", ctypes.byref(found))
        kind = _BFLOAT16 if self.bfloat16 else _FLOAT
        session().call("cudnnSetTensor4dDescriptorEx", found, kind, *self.shape, *self.strides)
        return found, ctypes.c_void_p(self.pointer)


def strides(shape: Shape, layout: str) -> list[int]:
    """Return the strides of (N, C, H, W) in a layout, in elements."""
    _, C, H, W = shape
    return [C * H * W, 1, W * C, C] if layout == "N,H,W,C" else [C * H * W, H * W, W, 1]


class Graph:
    """A graph of the frontend: tensors by name, and its plans."""

    def __init__(self, tensors: dict[str, Tensor], precision: str, describe: Callable[[Any, dict[str, Any]], Any]):
        cudnn = session().cudnn
        kinds, notes = cudnn.data_type, cudnn.numerical_note
        self._graph = cudnn.pygraph(
            io_data_type=kinds.BFLOAT16 if precision == "bf16" else kinds.FLOAT,
            intermediate_data_type=kinds.FLOAT,
            compute_data_type=kinds.FLOAT,
            handle=session().handle,
        )

        def dtype(tensor: Tensor) -> Any:
            return kinds.BFLOAT16 if tensor.bfloat16 else kinds.FLOAT

        inputs = {
            name: self._graph.tensor(name=name, dim=list(t.shape), stride=t.strides, data_type=dtype(t))
            for name, t in tensors.items()
            if name != "result"
        }
        result, out = describe(self._graph, inputs), tensors["result"]
        result.set_output(True).set_dim(list(out.shape)).set_stride(out.strides).set_data_type(dtype(out))
        self._tensors = tensors  # keeps their memory
        self._pointers = {inputs[name]: tensors[name].pointer for name in inputs} | {result: out.pointer}
        self._graph.validate()
        self._graph.build_operation_graph()
        self._graph.create_execution_plans([cudnn.heur_mode.A, cudnn.heur_mode.B, cudnn.heur_mode.FALLBACK])
        if precision != "bf16":
            unwanted = [notes.DOWN_CONVERT_INPUTS, notes.REDUCED_PRECISION_REDUCTION]
            self._graph.deselect_numeric_notes(unwanted if precision == "tf32" else [notes.TENSOR_CORE, *unwanted])
        self._graph.deselect_workspace_greater_than(_MOST_WORKSPACE)
        self._graph.check_support()

    def plans(self) -> dict[str, Call]:
        """Every plan that can be built, by its name."""
        built: dict[str, Call] = {}
        for index in range(self._graph.get_execution_plan_count()):
            try:
                self._graph.build_plan_at_index(index)
            except Exception:  # deselected, or not for this GPU
                continue
            name = self._graph.get_plan_name_at_index(index)
            built.setdefault(name, partial(self._run, index, self._graph.get_workspace_size_plan_at_index(index)))
        return built

    def _run(self, index: int, workspace: int) -> None:
        here = session()
        self._graph.execute_plan_at_index(self._pointers, here.workspace(workspace), index, handle=here.handle)


@dataclass(frozen=True)
class OlderCall:
    """A call of the older API with a handle, descriptors and addresses; ``tensors`` keeps their memory."""

    name: str
    arguments: tuple[Any, ...]
    tensors: tuple[Tensor, ...]

    def __call__(self) -> None:
        """Make the call."""
        here = session()
        here.call(self.name, ctypes.c_void_p(here.handle), *self.arguments)


def _convolution(problem: ConvProblem, device: Device, layout: str) -> Iterator[Contender]:
    if problem.pass_name == FORWARD:
        return _forward(problem, device, layout)
    return _gradient(problem, device, layout)


def _forward(problem: ConvProblem, device: Device, layout: str) -> Iterator[Contender]:
    s, epilogue = problem.sizes, problem.epilogue
    make, put = _makers(problem, device, layout)
    z = make((s.N, s.K, s.P, s.Q))
    tensors = {"x": put("x"), "weight": put("weight"), "result": z}

    def convolve(graph: Any, inputs: dict[str, Any]) -> Any:
        return graph.conv_fprop(image=inputs["x"], weight=inputs["weight"], **_WHOLE)

    separate = Graph(tensors, problem.precision, convolve)
    if epilogue == "plain":
        yield from _contenders(layout, [], separate, [], _fetching(z, problem.images))
        return
    host = problem.array("bias")[None]
    bias = Tensor(device, host.shape, layout, problem.precision == "bf16", host)
    rectified = make(z.shape)
    result = make((s.N, *s.y(epilogue)[:3])) if epilogue == "pool" else rectified
    pool: list[Call] = [_pool(rectified, result)] if epilogue == "pool" else []
    fetch = _fetching(result, problem.images)
    yield from _contenders(layout, [], separate, [*_bias_and_relu(z, bias, rectified, problem.precision), *pool], fetch)

    def fused(graph: Any, inputs: dict[str, Any]) -> Any:
        return _add_and_relu(graph, {**inputs, "z": convolve(graph, inputs)})

    try:
        whole = Graph({**tensors, "bias": bias, "result": rectified}, problem.precision, fused)
    except Exception:  # cuDNN takes no such graph in this precision
        return
    yield from _contenders(f"{layout}, bias and ReLU fused", [], whole, pool, fetch)


def _gradient(problem: ConvProblem, device: Device, layout: str) -> Iterator[Contender]:
    s = problem.sizes
    make, put = _makers(problem, device, layout)
    masked, dz = _masked(problem, make, put)
    if problem.pass_name == BACKWARD_DATA:
        for call in masked:
            call()
        dx = make((s.N, s.C, s.H, s.W))
        graph = Graph(
            {"dz": dz, "weight": put("weight"), "result": dx},
            problem.precision,
            lambda graph, t: graph.conv_dgrad(loss=t["dz"], filter=t["weight"], **_WHOLE),
        )
        yield from _contenders(layout, [], graph, [], _fetching(dx, problem.images))
        return
    dweight = make((s.K, s.C, s.R, s.S))
    graph = Graph(
        {"x": put("x"), "dz": dz, "result": dweight},
        problem.precision,
        lambda graph, t: graph.conv_wgrad(image=t["x"], loss=t["dz"], **_WHOLE),
    )
    yield from _contenders(layout, masked, graph, [], _fetching(dweight, None))


def _makers(
    problem: ConvProblem, device: Device, layout: str
) -> tuple[Callable[[Shape], Tensor], Callable[[str], Tensor]]:
    """Return a maker of undefined tensors, and one of the problem's arrays as N,C,H,W or K,C,R,S."""
    bfloat16 = problem.precision == "bf16"

    def put(name: str) -> Tensor:
        host = problem.array(name).transpose(3, 0, 1, 2)
        return Tensor(device, host.shape, layout, bfloat16, host)

    return lambda shape: Tensor(device, shape, layout, bfloat16), put


def _contenders(
    how: str, before: list[Call], graph: Graph, after: list[Call], fetch: Callable[[], np.ndarray]
) -> Iterator[Contender]:
    calls = len(before) + 1 + len(after)
    for name, plan in graph.plans().items():
        yield Contender(
            f"{how}, {name}" + (f", {calls} calls" if calls > 1 else ""),
            _one_after_the_other([*before, plan, *after]),
            fetch,
        )


def _fetching(tensor: Tensor, images: list[int] | None) -> Callable[[], np.ndarray]:
    """Return a call that fetches a tensor as channels, height, width, images; or as C,R,S,K."""
    return lambda: tensor.images(images).transpose(1, 2, 3, 0)


def _add_and_relu(graph: Any, inputs: dict[str, Any]) -> Any:
    return graph.relu(input=graph.add(a=inputs["z"], b=inputs["bias"]))


def _bias_and_relu(z: Tensor, bias: Tensor, rectified: Tensor, precision: str) -> list[Call]:
    """One call; two of the older API where cuDNN makes no kernel of the graph."""
    try:
        return [_first_plan(Graph({"z": z, "bias": bias, "result": rectified}, precision, _add_and_relu))]
    except Exception:
        add = OlderCall("cudnnAddTensor", (_ONE, *bias.described(), _ONE, *z.described()), (bias, z))
        ends = (_relu_descriptor(), _ONE, *z.described(), _ZERO, *rectified.described())
        return [add, OlderCall("cudnnActivationForward", ends, (z, rectified))]


def _masked(
    problem: ConvProblem, make: Callable[[Shape], Tensor], put: Callable[[str], Tensor]
) -> tuple[list[Call], Tensor]:
    """Calls that bring the gradient through pool and ReLU, and where it is then; ReLU first, on the smaller array."""
    gradient = put("gradient")
    if problem.epilogue == "plain":
        return [], gradient
    y, rectified = put("y"), make(gradient.shape)
    tensors = {"gradient": gradient, "y": y, "result": rectified}
    try:
        graph = Graph(
            tensors, problem.precision, lambda graph, t: graph.relu_backward(loss=t["gradient"], input=t["y"])
        )
        relu = _first_plan(graph)
    except Exception:
        arrays = (*y.described(), *gradient.described(), *y.described(), _ZERO, *rectified.described())
        relu = OlderCall("cudnnActivationBackward", (_relu_descriptor(), _ONE, *arrays), (y, gradient, rectified))
    if problem.epilogue == "relu":
        return [relu], rectified
    s = problem.sizes
    dz = make((s.N, s.K, s.P, s.Q))
    return [relu, _pool_backward(y, rectified, put("activations"), dz)], dz


def _first_plan(graph: Graph) -> Call:
    """Return the plan that cuDNN puts first: where memory binds, all plans are alike.

    Raises:
        StopIteration: there is none.
    """
    return next(iter(graph.plans().values()))


def _one_after_the_other(calls: list[Call]) -> Call:
    if len(calls) == 1:
        return calls[0]

    def run() -> None:
        for call in calls:
            call()

    return run


def _pools(problem: OpProblem, device: Device, layout: str) -> Iterator[Contender]:
    """The older API's pool, in either pass; its floor rule and our ceil rule agree on even extents alone."""

    def put(name: str) -> Tensor:
        host = problem.arrays[name].transpose(3, 0, 1, 2)
        return Tensor(device, host.shape, layout, False, host)

    x, y = put("x"), put("y")
    if x.shape[2] % 2 or x.shape[3] % 2:
        return
    if problem.pass_name == FORWARD:
        call, result = _pool(x, y), y
    else:
        result = Tensor(device, x.shape, layout, False)
        call = _pool_backward(y, put("gradient"), x, result)
    yield Contender(layout, call, lambda: problem.sample(result.images().transpose(1, 2, 3, 0)))


_WHOLE = {"padding": [0, 0], "stride": [1, 1], "dilation": [1, 1]}
_ONE, _ZERO = ctypes.byref(ctypes.c_float(1.0)), ctypes.byref(ctypes.c_float(0.0))


def _pool(x: Tensor, y: Tensor) -> OlderCall:
    arguments = (_pool_descriptor(), _ONE, *x.described(), _ZERO, *y.described())
    return OlderCall("cudnnPoolingForward", arguments, (x, y))


def _pool_backward(y: Tensor, dy: Tensor, x: Tensor, dx: Tensor) -> OlderCall:
    inputs = (*y.described(), *dy.described(), *x.described())
    arguments = (_pool_descriptor(), _ONE, *inputs, _ZERO, *dx.described())
    return OlderCall("cudnnPoolingBackward", arguments, (y, dy, x, dx))


def _pool_descriptor() -> ctypes.c_void_p:
    found = ctypes.c_void_p()
    session().call("cudnnCreatePoolingDescriptor", ctypes.byref(found))
    window, padding, stride = (2, 2), (0, 0), (2, 2)
    session().call("cudnnSetPooling2dDescriptor", found, _MAX, _PROPAGATE_NAN, *window, *padding, *stride)
    return found


def _relu_descriptor() -> ctypes.c_void_p:
    found = ctypes.c_void_p()
    session().call("cudnnCreateActivationDescriptor", ctypes.byref(found))
    session().call("cudnnSetActivationDescriptor", found, _RELU, _PROPAGATE_NAN, ctypes.c_double(0.0))
    return found
