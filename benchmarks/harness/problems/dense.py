"""The passes of the dense layers, those that move the weights among them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from types import SimpleNamespace
from typing import Any

import numpy as np

from gzkern.core.fused_update import FusedUpdate
from gzkern.core.shapes import BACKWARD_BIAS, BACKWARD_DATA, BACKWARD_WEIGHTS, FORWARD
from gzkern.cpu import dense as oracle
from gzkern.cpu import maxout
from gzkern.device import Device
from gzkern.errors import InputError

from ..operation_counts import BACKWARD_UPDATE, BACKWARD_UPDATE_DATA, dense_work
from ..verify import bound
from . import layers
from .elementwise import MOMENTUM, RATE
from .operation import SAMPLES, Arrays, Call, Expected, OpProblem, normal, some_images

_OPERANDS = {BACKWARD_DATA: ("weight",), BACKWARD_WEIGHTS: ("x",), BACKWARD_BIAS: ()}
"""Arrays that a gradient's kernel reads beside the gradient of y."""


def dense(batch: int) -> Iterator[OpProblem]:
    """Yield every pass of every layer."""
    for number, sizes in enumerate(layers.dense_sizes(), 1):
        yield from _passes(_Layer(f"dense{number}", *sizes, batch))


def _passes(layer: _Layer) -> Iterator[OpProblem]:
    yield layer.problem(FORWARD, _forward, layer.exact_y, layer.torch_forward, sample=some_images, finish=layer.finish)
    yield layer.problem(
        BACKWARD_DATA, _gradient, layer.exact_dx, lambda torch, **a: lambda: a["dz"] @ a["weight"].T, sample=some_images
    )
    yield layer.problem(
        BACKWARD_WEIGHTS, _gradient, layer.exact_dweight, lambda torch, **a: lambda: a["x"].T @ a["dz"],
        sample=layer.some_rows,
    )  # fmt: skip
    velocity = {"velocity": np.zeros_like(layer.arrays["weight"])}
    yield layer.problem(
        BACKWARD_UPDATE_DATA, _moved, layer.exact_dx, partial(_torch_moved, True), velocity, sample=some_images
    )
    yield layer.problem(
        BACKWARD_UPDATE, _moved, layer.exact_weight, partial(_torch_moved, False), velocity, sample=layer.some_rows
    )
    yield layer.problem(BACKWARD_BIAS, _gradient, layer.exact_dbias, lambda torch, **a: lambda: a["dz"].sum(0))


@dataclass(frozen=True)
class _Layer:
    """A dense layer: its sizes, its arrays, its results in float64."""

    name: str
    inputs: int
    outputs: int
    activation: str
    batch: int

    def problem(
        self,
        pass_name: str,
        start: Callable[[str, str, Device, SimpleNamespace], Call],
        exact: Callable[[SimpleNamespace], Expected],
        torch: Callable[..., Call],
        changed: Arrays | None = None,
        **how: Any,
    ) -> OpProblem:
        """Return a pass; ``changed`` are the arrays that it changes beside the weight."""
        return OpProblem(
            "dense",
            pass_name,
            self.batch,
            dense_work(self.inputs, self.outputs, self.batch, pass_name, self.activation),
            self.arrays | (changed or {}),
            partial(start, pass_name, self.activation),
            exact,
            torch=torch,
            layer=self.name,
            variant=self.activation,
            in_place=changed is not None,
            **how,
        )

    @cached_property
    def arrays(self) -> Arrays:
        """Arrays of all passes; ``dz`` is the gradient before the activation."""
        x, bias = normal(self.inputs, self.batch), normal(self.outputs, seed=2)
        weight = normal(self.inputs, self.outputs, seed=1) / np.float32(np.sqrt(self.inputs))
        arrays = {"x": x, "weight": weight, "bias": bias}
        if self.activation != "maxout":
            gradient = normal(self.outputs, self.batch, seed=3)
            return arrays | {"gradient": gradient, "dz": gradient}
        gradient = normal(self.outputs // 2, self.batch, seed=3)
        code = np.where(normal(*gradient.shape, seed=4) > 0, 1, 2).astype(np.uint8)
        return arrays | {"gradient": gradient, "dz": maxout.backward(gradient, code), "code": code}

    def some_rows(self, weight: np.ndarray) -> np.ndarray:
        """Take some rows of a weight or of its gradient."""
        return weight[:: self.inputs // SAMPLES]

    def finish(self, product: np.ndarray, a: Arrays) -> np.ndarray:
        """Add the bias to a product and apply the activation."""
        z = product + a["bias"][:, None]
        return maxout.forward(z)[0] if self.activation == "maxout" else z

    def torch_forward(self, torch: Any, **a: Any) -> Call:
        """Return PyTorch's linear layer, with maxout by a reshape."""
        turned = a["weight"].T.contiguous()

        def call() -> Any:
            z = torch.nn.functional.linear(a["x"], turned, a["bias"])
            return z.view(self.batch, -1, 2).amax(-1) if self.activation == "maxout" else z

        return call

    def exact_y(self, a: SimpleNamespace) -> Expected:
        """Return y for some images."""
        some = some_images(a.x)
        y, _ = oracle.forward(some, a.weight, a.bias, activation=self.activation)
        squares, _ = oracle.forward(some**2, a.weight**2, a.bias**2, activation=self.activation)
        return y, bound("fp32", self.inputs + 1, squares, y)

    def exact_dx(self, a: SimpleNamespace) -> Expected:
        """Return the gradient of x for some images."""
        some = some_images(a.dz)
        return a.weight @ some, bound("fp32", self.outputs, a.weight**2 @ some**2, 0)

    def exact_dweight(self, a: SimpleNamespace) -> Expected:
        """Return some rows of the weight's gradient."""
        x = self.some_rows(a.x)
        return x @ a.dz.T, bound("fp32", self.batch, x**2 @ (a.dz**2).T, 0)

    def exact_weight(self, a: SimpleNamespace) -> Expected:
        """Return some rows of the weight after one update from rest."""
        some, (gradient, off) = self.some_rows(a.weight), self.exact_dweight(a)
        step = RATE * (1 + MOMENTUM)
        return some - step * gradient, step * off + 8 * 2.0**-24 * (np.abs(some) + np.abs(gradient))

    def exact_dbias(self, a: SimpleNamespace) -> Expected:
        """Return the gradient of the bias."""
        return a.dz.sum(axis=1), bound("fp32", self.batch, (a.dz**2).sum(axis=1), 0)


def _forward(pass_name: str, activation: str, d: Device, a: SimpleNamespace) -> Call:
    return lambda: d.operations.dense.forward(a.x, a.weight, a.bias, activation=activation)[0]


def _gradient(pass_name: str, activation: str, d: Device, a: SimpleNamespace) -> Call:
    if d.name == "cpu":
        raise InputError("the CPU computes the gradients of a dense layer together")
    from gzkern.cuda.dense import backward as kernels

    operands = [getattr(a, operand) for operand in _OPERANDS[pass_name]]
    return lambda: getattr(kernels, pass_name)(*operands, a.gradient, getattr(a, "code", None), activation)


def _moved(pass_name: str, activation: str, d: Device, a: SimpleNamespace) -> Call:
    if d.name == "cpu":
        raise InputError("the CPU moves the weights of a dense layer apart from its backward pass")
    from gzkern.cuda.dense import backward as kernels

    rate, first_bad = d.asarray(np.full(1, RATE, np.float32)), d.asarray(np.full(1, -1, np.int64))
    operands = a.x, a.weight, a.gradient, FusedUpdate(a.velocity, rate, MOMENTUM, first_bad)

    def move() -> Any:
        dx = getattr(kernels, pass_name)(*operands, getattr(a, "code", None), activation)
        return a.weight if dx is None else dx

    return move


def _torch_moved(data: bool, torch: Any, **a: Any) -> Call:
    """Return PyTorch's gradient and fused update of the weight; with ``data`` the gradient of x, too."""
    parameter = torch.nn.Parameter(a["weight"])
    optimiser = torch.optim.SGD([parameter], RATE, MOMENTUM, nesterov=True, fused=True)

    def step() -> Any:
        dx = a["dz"] @ a["weight"].T if data else None
        parameter.grad = a["x"].T @ a["dz"]
        optimiser.step()
        return parameter if dx is None else dx

    return step
