"""PyTorch, eager, in both memory formats, cuDNN choosing by measuring; TF32 where the precision is tf32 alone.

Of a convolution it is given the calls of an ordinary training script, in place where that is faster. The gradient that
comes through ReLU and pool counts with the gradient of the weights, and is there already for that of the data.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from gzkern.core.shapes import BACKWARD_DATA, FORWARD
from gzkern.device import Device

from ..harness.problems.conv2d import ConvProblem
from ..harness.problems.operation import OpProblem
from ..harness.problems.problem import Contender, Kept


def missing(device: Device) -> str | None:
    """Say why PyTorch cannot be measured; None if it can."""
    if importlib.util.find_spec("torch") is None:
        return 'PyTorch is not installed; pip install "gzkern[bench]"'
    import torch

    if device.name == "cuda" and not torch.cuda.is_available():
        return "this PyTorch finds no GPU; install a build for CUDA"
    return "nothing is timed on the emulated device" if device.name == "emulated" else None


def contenders(problem: Any, device: Device) -> Iterator[Contender]:
    """Yield one a memory format of a convolution; one of any other operation."""
    import torch

    torch.backends.cudnn.benchmark = True
    tf32 = problem.precision == "tf32"
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = tf32
    if isinstance(problem, ConvProblem):
        yield _convolution(torch, problem, device, "N,C,H,W", torch.contiguous_format)
        yield _convolution(torch, problem, device, "N,H,W,C", torch.channels_last)
    elif isinstance(problem, OpProblem) and problem.torch is not None:
        build = problem.torch

        def start() -> Kept:
            host = problem.torch_arrays()
            arrays = {name: torch.from_numpy(array).to(_home(device), copy=True) for name, array in host.items()}
            return Kept(_without_gradients(torch, build(torch, **arrays)))

        yield problem.contender("eager", start, lambda result: problem.from_torch(_numpy(result)))


def _home(device: Device) -> str:
    return "cuda" if device.name == "cuda" else "cpu"


def _without_gradients(torch: Any, call: Callable[[], Any]) -> Callable[[], Any]:
    def run() -> Any:
        with torch.no_grad():
            return call()

    return run


def _numpy(result: Any) -> np.ndarray:
    return result.detach().float().cpu().numpy()


def _convolution(torch: Any, problem: ConvProblem, device: Device, layout: str, memory_format: Any) -> Contender:
    dtype = torch.bfloat16 if problem.precision == "bf16" else torch.float32

    def put(name: str) -> Any:
        """C,H,W,N or C,R,S,K as N,C,H,W or K,C,R,S."""
        array = torch.from_numpy(problem.array(name)).to(_home(device), dtype)
        return array.permute(3, 0, 1, 2).contiguous(memory_format=memory_format)

    functional, aten, epilogue = torch.nn.functional, torch.ops.aten, problem.epilogue
    if problem.pass_name == FORWARD:
        x, weight = put("x"), put("weight")
        bias = torch.from_numpy(problem.array("bias")).to(_home(device), dtype)[None]
        bias = bias.contiguous(memory_format=memory_format)

        def call() -> Any:
            y = functional.conv2d(x, weight)
            if epilogue == "plain":
                return y
            y = y.add_(bias).relu_()
            return functional.max_pool2d(y, 2, ceil_mode=True) if epilogue == "pool" else y
    else:
        call = _gradient(torch, aten, problem, put)
    saved = Kept(_without_gradients(torch, call))

    def fetch() -> np.ndarray:
        result = saved.result
        if problem.pass_name in (FORWARD, BACKWARD_DATA):
            return _numpy(result[problem.images]).transpose(1, 2, 3, 0)
        return _numpy(result).transpose(1, 2, 3, 0)

    return Contender(layout, saved, fetch)


def _gradient(torch: Any, aten: Any, problem: ConvProblem, put: Callable[[str], Any]) -> Callable[[], Any]:
    gradient, epilogue, sizes = put("gradient"), problem.epilogue, problem.sizes
    y = None if epilogue == "plain" else put("y")
    if epilogue == "pool":
        activations = put("activations")
        indices = torch.nn.functional.max_pool2d(activations, 2, ceil_mode=True, return_indices=True)[1]

    def masked() -> Any:
        if epilogue == "plain":
            return gradient
        rectified = aten.threshold_backward(gradient, y, 0)
        if epilogue == "relu":
            return rectified
        window = [2, 2], [2, 2], [0, 0], [1, 1], True
        return aten.max_pool2d_with_indices_backward(rectified, activations, *window, indices)

    data = problem.pass_name == BACKWARD_DATA
    x = _shaped_like(torch, gradient, (sizes.N, sizes.C, sizes.H, sizes.W)) if data else put("x")
    weight = put("weight")
    constants = None, [1, 1], [0, 0], [1, 1], False, [0, 0], 1, [data, not data, False]
    ready = masked() if data else None

    def call() -> Any:
        dz = ready if data else masked()
        return aten.convolution_backward(dz, x, weight, *constants)[0 if data else 1]

    return call


def _shaped_like(torch: Any, gradient: Any, shape: tuple[int, ...]) -> Any:
    """An array of a shape in the memory format of a gradient; its values are not read."""
    last = gradient.is_contiguous(memory_format=torch.channels_last) and not gradient.is_contiguous()
    memory_format = torch.channels_last if last else torch.contiguous_format
    return torch.empty(shape, dtype=gradient.dtype, device=gradient.device, memory_format=memory_format)
