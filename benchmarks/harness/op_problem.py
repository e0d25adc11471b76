"""Every operation that is no product of a convolution, at the sizes of the published network."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property, partial
from types import SimpleNamespace
from typing import Any

import numpy as np

from gzkern.augment.tables import tables
from gzkern.augment.warp import warp_reference
from gzkern.config import load_config
from gzkern.core import shapes
from gzkern.core.dropout_mask import DropoutMask
from gzkern.core.fused_update import FusedUpdate
from gzkern.core.shapes import (
    BACKWARD_BIAS,
    BACKWARD_DATA,
    BACKWARD_UPDATE,
    BACKWARD_UPDATE_DATA,
    BACKWARD_WEIGHTS,
    FORWARD,
    VIEWS,
    Work,
)
from gzkern.cpu import constraints as output_layer
from gzkern.cpu import dense, dropout, maxout, maxpool2d, relu, viewpoints
from gzkern.decision_trees.tree import load_tree
from gzkern.device import Device, kernel_device
from gzkern.errors import InputError

from .conv_problem import LAYERS, Data, published
from .problem import Contender, Kept
from .verify import bound, worst

BACKWARD = "backward"
OPS = (
    *("dense", "nesterov", "maxpool2d", "conv2d_bias", "viewpoints", "warp", "dropout", "maxout", "relu"),
    *("constraints", "clip", "mse", "finite"),
)
"""The most costly first."""

_RATE, _MOMENTUM, _MASK = 0.01, 0.9, DropoutMask(0.5, 1, 2, 3)
_SAMPLES = 4  # images that are checked

Arrays = dict[str, np.ndarray]


class OpProblem:
    """See :class:`benchmarks.harness.problem.Problem`.

    Args:
        name, layer, pass_name, form, batch: of its row.
        work: at least.
        arrays: on the host, by name.
        call: from a device and its arrays to what is timed.
        exact: from arrays in float64 to the result, or of it what ``sample`` takes, and how far off another may be.
        torch: from PyTorch and its arrays to what is timed; None where it has no such call.
        sample: what is checked of a result.
        layer, form: of its row.
        finish: what a bare product lacks of the result, computed on the host.
        in_place: whether a call changes its arrays, so that a call on fresh ones is checked.
    """

    precision = "fp32"

    def __init__(
        self,
        name: str,
        pass_name: str,
        batch: int,
        work: Work,
        arrays: Arrays,
        call: Callable[[Device, SimpleNamespace], Callable[[], Any]],
        exact: Callable[[SimpleNamespace], tuple[np.ndarray, Any]],
        *,
        torch: Callable[..., Callable[[], Any]] | None = None,
        sample: Callable[[np.ndarray], np.ndarray] = np.asarray,
        layer: str | None = None,
        variant: str | None = None,
        finish: Callable[[np.ndarray, Arrays], np.ndarray] | None = None,
        in_place: bool = False,
    ):
        self.name, self.pass_name, self.batch, self.work, self.arrays = name, pass_name, batch, work, arrays
        self.layer, self.variant, self.torch, self.sample = layer, variant, torch, sample
        self.in_place = in_place
        self._call, self._exact, self._finish = call, exact, finish
        self.checked = "float64" if sample is np.asarray else "float64 on samples"

    def ours(self, device: Device) -> Contender:
        """This project on a device.

        Raises:
            InputError: it has no such call apart.
        """

        def start() -> Kept:
            copies = {name: device.asarray(array.copy()) for name, array in self.arrays.items()}
            return Kept(self._call(device, SimpleNamespace(**copies)))

        return self.contender("ours", start, lambda result: self.sample(device.asnumpy(result)))

    def contender(self, plan: str, start: Callable[[], Kept], fetch: Callable[[Any], np.ndarray]) -> Contender:
        """From a function that sets up a call, and one that takes what is checked from its result."""
        timed = start()

        def once() -> np.ndarray:
            fresh = start()
            fresh()
            return fetch(fresh.result)

        return Contender(plan, timed, once if self.in_place else lambda: fetch(timed.result))

    def check(self, got: np.ndarray) -> float:
        """The largest error as a fraction of its bound, of what ``sample`` takes."""
        return worst(got, *self._expected)

    @cached_property
    def _expected(self) -> tuple[np.ndarray, Any]:
        wide = {n: a.astype(np.float64) if a.dtype == np.float32 else a for n, a in self.arrays.items()}
        return self._exact(SimpleNamespace(**wide))

    def torch_arrays(self) -> Arrays:
        """The arrays for PyTorch: four extents as N,C,H,W, two as batch first, as it likes them."""
        turned = {4: (3, 0, 1, 2), 2: (1, 0)}
        return {
            name: np.ascontiguousarray(a.transpose(turned[a.ndim])) if a.ndim in turned and name != "weight" else a
            for name, a in self.arrays.items()
        }

    def from_torch(self, result: np.ndarray) -> np.ndarray:
        """PyTorch's result in our order, sampled."""
        if result.ndim == 4 and self.name != "conv2d_bias":
            result = result.transpose(1, 2, 3, 0)
        elif result.ndim == 2 and self.pass_name not in (BACKWARD_WEIGHTS, BACKWARD_UPDATE):
            result = result.T
        return self.sample(result)

    def finish(self, product: np.ndarray, arrays: Arrays) -> np.ndarray:
        """What ``sample`` takes of a bare product: with what comes after it added on the host."""
        return self.sample(self._finish(product, arrays) if self._finish else product)


def problems(op: str, batch: int) -> Iterator[OpProblem]:
    """The calls of an operation at a batch."""
    return _BUILDERS[op](batch)


def _normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng((seed, *shape)).standard_normal(shape, np.float32)


def _ulps(exact: np.ndarray, count: int = 4) -> tuple[np.ndarray, Any]:
    return exact, count * 2.0**-24 * np.abs(exact)


def _some(result: np.ndarray) -> np.ndarray:
    """Images of a large result, or of its last extent."""
    return result[..., :: max(result.shape[-1] // _SAMPLES, 1)]


def _relu(batch: int) -> Iterator[OpProblem]:
    sizes, _ = published("conv3", batch)
    shape = sizes.y("relu")
    x, gradient = _normal(*shape), _normal(*shape, seed=1)
    yield OpProblem(
        "relu", FORWARD, batch, shapes.relu_work(x.size, False), {"x": x},
        lambda d, a: lambda: d.operations.relu.forward(a.x), lambda a: _ulps(relu.forward(a.x)),
        torch=lambda torch, x: lambda: torch.relu(x),
    )  # fmt: skip
    yield OpProblem(
        "relu", BACKWARD, batch, shapes.relu_work(x.size, True), {"gradient": gradient, "y": relu.forward(x)},
        lambda d, a: lambda: d.operations.relu.backward(a.gradient, a.y),
        lambda a: _ulps(relu.backward(a.gradient, a.y)),
        torch=lambda torch, gradient, y: lambda: torch.ops.aten.threshold_backward(gradient, y, 0),
    )  # fmt: skip


def _maxpool2d(batch: int) -> Iterator[OpProblem]:
    sizes, variant = published("conv1", batch)
    data = Data(sizes, variant)
    x, y, code, gradient = data.activations, data.y, data.saved, data.gradient
    assert code is not None
    K, P, Q, N = x.shape
    work = shapes.maxpool2d_work(K, P, Q, N)

    def pool(torch: Any, **a: Any) -> Callable[[], Any]:
        return lambda: torch.nn.functional.max_pool2d(a["x"], 2, ceil_mode=True)

    def unpool(torch: Any, **a: Any) -> Callable[[], Any]:
        indices = torch.nn.functional.max_pool2d(a["x"], 2, ceil_mode=True, return_indices=True)[1]
        window = [2, 2], [2, 2], [0, 0], [1, 1], True
        return lambda: torch.ops.aten.max_pool2d_with_indices_backward(a["gradient"], a["x"], *window, indices)

    yield OpProblem(
        "maxpool2d", FORWARD, batch, work, {"x": x, "y": y},
        lambda d, a: lambda: d.operations.maxpool2d.forward(a.x)[0],
        lambda a: _ulps(_some(a.y)), torch=pool, sample=_some,
    )  # fmt: skip
    # What is rectified does not pass a gradient by our code, and does by theirs: it comes rectified already.
    rectified = np.where(code > 0, gradient, 0)
    yield OpProblem(
        "maxpool2d", BACKWARD, batch, work, {"x": x, "y": y, "code": code, "gradient": rectified},
        lambda d, a: lambda: d.operations.maxpool2d.backward(a.gradient, a.code, P, Q),
        lambda a: _ulps(maxpool2d.backward(_some(a.gradient), _some(a.code), P, Q)), torch=unpool, sample=_some,
    )  # fmt: skip


def _maxout(batch: int) -> Iterator[OpProblem]:
    units = load_config("paper").model.units[0]
    x, gradient = _normal(2 * units, batch), _normal(units, batch, seed=1)
    _, code = maxout.forward(x)
    work = shapes.maxout_work(units, batch)

    def backward(torch: Any, **a: Any) -> Callable[[], Any]:
        x = a["x"].requires_grad_()
        with torch.enable_grad():
            y = x.view(batch, units, 2).amax(-1)
        return lambda: torch.autograd.grad(y, x, a["gradient"], retain_graph=True)[0]

    yield OpProblem(
        "maxout", FORWARD, batch, work, {"x": x},
        lambda d, a: lambda: d.operations.maxout.forward(a.x)[0], lambda a: _ulps(maxout.forward(a.x)[0]),
        torch=lambda torch, x: lambda: x.view(batch, units, 2).amax(-1),
    )  # fmt: skip
    yield OpProblem(
        "maxout", BACKWARD, batch, work, {"x": x, "gradient": gradient, "code": code},
        lambda d, a: lambda: d.operations.maxout.backward(a.gradient, a.code),
        lambda a: _ulps(maxout.backward(a.gradient, a.code)), torch=backward,
    )  # fmt: skip


def _dropout(batch: int) -> Iterator[OpProblem]:
    inputs = _dense_sizes()[0][0]
    x = _normal(inputs, batch)
    yield OpProblem(
        "dropout", FORWARD, batch, shapes.dropout_work(x.size), {"x": x},
        lambda d, a: lambda: d.operations.dropout.forward(a.x, _MASK),
        lambda a: _ulps(dropout.forward_oracle(a.x, _MASK)),
    )  # fmt: skip


def _mse(batch: int) -> Iterator[OpProblem]:
    answers = len(load_tree())
    p, targets = _normal(answers, batch), _normal(answers, batch, seed=1)
    gradient = np.ones((), np.float32)
    yield OpProblem(
        "mse", FORWARD, batch, shapes.mse_work(p.size, False), {"p": p, "targets": targets},
        lambda d, a: lambda: d.operations.mse.forward(a.p, a.targets),
        lambda a: (np.mean((a.p - a.targets) ** 2), bound("fp32", p.size, np.mean((a.p - a.targets) ** 4), 0)),
        torch=lambda torch, p, targets: lambda: torch.nn.functional.mse_loss(p, targets),
    )  # fmt: skip
    yield OpProblem(
        "mse", BACKWARD, batch, shapes.mse_work(p.size, True), {"gradient": gradient, "p": p, "targets": targets},
        lambda d, a: lambda: d.operations.mse.backward(a.gradient, a.p, a.targets),
        lambda a: _ulps(2 * (a.p - a.targets) / p.size),
        torch=lambda torch, gradient, p, targets: (
            lambda: torch.ops.aten.mse_loss_backward(gradient, p, targets, 1)
        ),
    )  # fmt: skip


def _nesterov(batch: int) -> Iterator[OpProblem]:
    inputs, outputs, _ = _dense_sizes()[0]
    size = inputs * outputs
    weight, gradient = (_normal(size, seed=seed) for seed in (1, 3))
    arrays = {"weight": weight, "gradient": gradient, "velocity": np.zeros(size, np.float32)}

    def call(d: Device, a: SimpleNamespace) -> Callable[[], Any]:
        first_bad = d.asarray(np.full(1, -1, np.int64))

        def update() -> Any:
            d.operations.nesterov.update(a.weight, a.velocity, a.gradient, _RATE, _MOMENTUM, first_bad)
            return a.weight

        return update

    def fused(torch: Any, **a: Any) -> Callable[[], Any]:
        parameter = torch.nn.Parameter(a["weight"])
        parameter.grad = a["gradient"]
        optimiser = torch.optim.SGD([parameter], _RATE, _MOMENTUM, nesterov=True, fused=True)

        def step() -> Any:
            optimiser.step()
            return parameter

        return step

    yield OpProblem(
        "nesterov", "update", batch, shapes.nesterov_work(size), arrays, call,
        lambda a: (
            (a.weight - _RATE * (1 + _MOMENTUM) * a.gradient)[:: size // 1000],
            8 * 2.0**-24 * (np.abs(a.weight) + np.abs(a.gradient))[:: size // 1000],
        ),
        torch=fused, sample=lambda result: result[:: size // 1000], in_place=True,
    )  # fmt: skip


def _finite(batch: int) -> Iterator[OpProblem]:
    values = _normal(len(load_tree()), batch)

    def call(d: Device, a: SimpleNamespace) -> Callable[[], Any]:
        step, first_bad = d.asarray(np.full(1, 7)), d.asarray(np.full(1, -1, np.int64))

        def check() -> Any:
            d.operations.nan_guard.check(a.values, step, first_bad)
            return first_bad

        return check

    yield OpProblem(
        "finite", FORWARD, batch, shapes.finite_work(values.size), {"values": values}, call,
        lambda a: (np.full(1, -1.0), 0.0),
        torch=lambda torch, values: lambda: torch.isfinite(values).all().view(1).float() - 2,
    )  # fmt: skip


def _viewpoints(batch: int) -> Iterator[OpProblem]:
    target = load_config("paper").data.target
    extent = shapes.patch_extent(target)
    crops = np.random.default_rng(1).random((batch, 2, target, target, 3), np.float32)
    bytes_ = np.random.default_rng(2).integers(0, 256, crops.shape).astype(np.uint8)
    gradient = _normal(3, extent, extent, VIEWS * batch)

    def patches(torch: Any, crops: Any) -> Any:
        planes = crops.permute(1, 0, 4, 2, 3)
        return torch.cat(
            [
                torch.rot90(mirrored, quarter, (2, 3))[:, :, :extent, :extent]
                for crop in planes
                for mirrored in (crop, crop.flip(3))
                for quarter in range(4)
            ]
        )

    def backward(torch: Any, **a: Any) -> Callable[[], Any]:
        x = a["crops"].requires_grad_()
        with torch.enable_grad():
            y = patches(torch, x)
        return lambda: torch.autograd.grad(y, x, a["gradient"], retain_graph=True)[0].flatten()

    for variant, array in (("float32", crops), ("uint8", bytes_)):
        yield OpProblem(
            "viewpoints", FORWARD, batch, shapes.viewpoints_work(batch, target, extent, array.itemsize),
            {"crops": array}, lambda d, a: lambda: d.operations.viewpoints.forward(a.crops, extent),
            lambda a: _ulps(viewpoints.forward_oracle(_scaled(a.crops), extent)), variant=variant,
            torch=(lambda torch, crops: lambda: patches(torch, crops)) if variant == "float32" else
                  (lambda torch, crops: lambda: patches(torch, crops.float() / 255)),
        )  # fmt: skip
    yield OpProblem(
        "viewpoints", BACKWARD, batch, shapes.viewpoints_work(batch, target, extent),
        {"crops": crops, "gradient": gradient},
        lambda d, a: lambda: d.operations.viewpoints.backward(a.gradient, target),
        lambda a: (
            viewpoints.backward(a.gradient, target).ravel(),
            bound("fp32", VIEWS, viewpoints.backward(a.gradient**2, target), 0).ravel(),
        ),
        torch=backward, sample=np.ravel,
    )  # fmt: skip


def _warp(batch: int) -> Iterator[OpProblem]:
    config = load_config("paper")
    target, size = config.data.target, (424, 424)
    extent = shapes.patch_extent(target)
    examples = np.arange(batch)
    matrices, shifts = tables(examples, examples, 0, config.augment, config.data, size)
    arrays: Arrays = {
        "images": np.random.default_rng(1).integers(0, 256, (batch, *size, 3)).astype(np.uint8),
        "indices": examples[None],
        "matrices": matrices[None],
        "shifts": shifts[None],
        "step": np.zeros(1, np.int64),
    }

    def call(d: Device, a: SimpleNamespace) -> Callable[[], Any]:
        if d.name == "cpu":
            raise InputError("the CPU warps crops, in gzkern.augment")
        return lambda: kernel_device(d).operations.warp.patches(
            a.images, a.indices, a.matrices, a.shifts, a.step, target, extent
        )

    def exact(a: SimpleNamespace) -> tuple[np.ndarray, Any]:
        """The views of the first image that ``_some`` takes; eight roundings of values up to 1."""
        crops = warp_reference(a.images[0], a.matrices[0, 0], target, a.shifts[0, 0])
        return _some(viewpoints.forward_oracle(crops[None], extent)), 8 * 2.0**-24

    work = shapes.warp_work(batch, target, extent)
    yield OpProblem("warp", "patches", batch, work, arrays, call, exact, sample=_some)


def _scaled(crops: np.ndarray) -> np.ndarray:
    return crops / 255 if crops.dtype == np.uint8 else crops


def _constraints(batch: int) -> Iterator[OpProblem]:
    tree = load_tree()
    z, gradient = _normal(len(tree), batch) + 1, _normal(len(tree), batch, seed=1)
    p, conditional = output_layer.forward(z, tree)

    def answers(torch: Any, z: Any) -> Any:
        from ..baselines.torch_network import TorchNetwork

        return TorchNetwork._constrain(SimpleNamespace(tree=tree), z)  # type: ignore[arg-type]

    def backward(torch: Any, **a: Any) -> Callable[[], Any]:
        z = a["z"].requires_grad_()
        with torch.enable_grad():
            p = answers(torch, z)
        return lambda: torch.autograd.grad(p, z, a["gradient"], retain_graph=True)[0]

    def exact(a: SimpleNamespace) -> tuple[np.ndarray, Any]:
        dz = output_layer.backward(a.gradient, a.z, *output_layer.forward(a.z, tree), tree)
        return dz, 64 * 2.0**-24 * np.abs(dz).max(axis=0)

    yield OpProblem(
        "constraints", FORWARD, batch, shapes.constraints_work(len(tree), batch, False), {"z": z},
        lambda d, a: lambda: d.operations.constraints.forward(a.z, tree)[0],
        lambda a: _ulps(output_layer.forward(a.z, tree)[0], 32),
        torch=lambda torch, z: lambda: answers(torch, z),
    )  # fmt: skip
    yield OpProblem(
        "constraints", BACKWARD, batch, shapes.constraints_work(len(tree), batch, True),
        {"gradient": gradient, "z": z, "p": p, "conditional": conditional},
        lambda d, a: lambda: d.operations.constraints.backward(a.gradient, a.z, a.p, a.conditional, tree),
        exact, torch=backward,
    )  # fmt: skip


def _clip(batch: int) -> Iterator[OpProblem]:
    answers = len(load_tree())
    z, gradient = _normal(answers, batch), _normal(answers, batch, seed=1)
    yield OpProblem(
        "clip", FORWARD, batch, shapes.clip_work(z.size, False), {"z": z},
        lambda d, a: lambda: d.operations.constraints.clip_forward(a.z), lambda a: _ulps(np.clip(a.z, 0, 1)),
        torch=lambda torch, z: lambda: z.clamp(0, 1),
    )  # fmt: skip
    yield OpProblem(
        "clip", BACKWARD, batch, shapes.clip_work(z.size, True), {"gradient": gradient, "z": z},
        lambda d, a: lambda: d.operations.constraints.clip_backward(a.gradient, a.z),
        lambda a: _ulps(a.gradient * ((a.z > 0) & (a.z < 1))),
        torch=lambda torch, gradient, z: lambda: torch.ops.aten.hardtanh_backward(gradient, z, 0, 1),
    )  # fmt: skip


def _conv2d_bias(batch: int) -> Iterator[OpProblem]:
    for layer in LAYERS:
        sizes, variant = published(layer, batch)
        data = Data(sizes, variant)
        assert data.saved is not None
        arrays = {"gradient": data.gradient, "saved": data.saved}

        def call(d: Device, a: SimpleNamespace, variant: str = variant, sizes: Any = sizes) -> Callable[[], Any]:
            if d.name == "cpu":
                raise InputError("the CPU computes the gradient of the bias with the other two")
            from gzkern.cuda.conv2d import operation as kernels

            return lambda: kernels.backward_bias(a.gradient, a.saved, variant, sizes)

        def exact(a: SimpleNamespace, variant: str = variant, sizes: Any = sizes) -> tuple[np.ndarray, Any]:
            gradient, saved = a.gradient[:2], a.saved[:2]
            pool = variant == "pool"
            dz = maxpool2d.backward(gradient, saved, sizes.P, sizes.Q) if pool else relu.backward(gradient, saved)
            return dz.sum(axis=3), bound("fp32", sizes.N, (dz**2).sum(axis=3), 0)

        yield OpProblem(
            "conv2d_bias", BACKWARD_BIAS, batch, shapes.conv2d_work(sizes, BACKWARD_BIAS, variant), arrays, call, exact,
            layer=layer, variant=variant, sample=lambda result: result[:2],
        )  # fmt: skip


def _dense_sizes() -> list[tuple[int, int, str]]:
    """Inputs, outputs and activation of the published network's dense layers."""
    model = load_config("paper").model
    sizes, variant = published(LAYERS[-1], 1)
    inputs = int(np.prod(sizes.y(variant)[:3])) * VIEWS
    found = []
    for units in model.units:
        found.append((inputs, 2 * units, "maxout"))
        inputs = units
    return [*found, (inputs, len(load_tree()), "linear")]


def _dense(batch: int) -> Iterator[OpProblem]:
    for number, (inputs, outputs, activation) in enumerate(_dense_sizes(), 1):
        yield from _dense_layer(f"dense{number}", inputs, outputs, activation, batch)


def _dense_layer(layer: str, inputs: int, outputs: int, activation: str, batch: int) -> Iterator[OpProblem]:
    x, weight = _normal(inputs, batch), _normal(inputs, outputs, seed=1) / np.float32(np.sqrt(inputs))
    bias = _normal(outputs, seed=2)
    maxed = activation == "maxout"
    gradient = _normal(outputs // 2 if maxed else outputs, batch, seed=3)
    code = np.where(_normal(*gradient.shape, seed=4) > 0, 1, 2).astype(np.uint8) if maxed else None
    dz = maxout.backward(gradient, code) if code is not None else gradient
    arrays = {"x": x, "weight": weight, "bias": bias, "gradient": gradient, "dz": dz}
    if code is not None:
        arrays["code"] = code
    problem = partial(OpProblem, "dense", layer=layer, variant=activation, batch=batch, arrays=arrays)
    work = partial(shapes.dense_work, inputs, outputs, batch, activation=activation)

    def ours(name: str) -> Callable[[Device, SimpleNamespace], Callable[[], Any]]:
        def call(d: Device, a: SimpleNamespace) -> Callable[[], Any]:
            if d.name == "cpu":
                raise InputError("the CPU computes the gradients of a dense layer together")
            from gzkern.cuda.dense import operation as kernels

            operands = {BACKWARD_DATA: ("weight",), BACKWARD_WEIGHTS: ("x",), BACKWARD_BIAS: ()}[name]
            inputs_ = [getattr(a, operand) for operand in operands]
            return lambda: getattr(kernels, name)(*inputs_, a.gradient, getattr(a, "code", None), activation)

        return call

    def moved(name: str) -> Callable[[Device, SimpleNamespace], Callable[[], Any]]:
        def call(d: Device, a: SimpleNamespace) -> Callable[[], Any]:
            if d.name == "cpu":
                raise InputError("the CPU moves the weights of a dense layer apart from its backward pass")
            from gzkern.cuda.dense import operation as kernels

            rate, first_bad = d.asarray(np.full(1, _RATE, np.float32)), d.asarray(np.full(1, -1, np.int64))
            operands = a.x, a.weight, a.gradient, FusedUpdate(a.velocity, rate, _MOMENTUM, first_bad)

            def move() -> Any:
                dx = getattr(kernels, name)(*operands, getattr(a, "code", None), activation)
                return a.weight if dx is None else dx

            return move

        return call

    def act(product: np.ndarray, a: Arrays) -> np.ndarray:
        z = product + a["bias"][:, None]
        return maxout.forward(z)[0] if maxed else z

    def exact_y(a: SimpleNamespace) -> tuple[np.ndarray, Any]:
        some = _some(a.x)
        y, _ = dense.forward(some, a.weight, a.bias, activation=activation)
        squares, _ = dense.forward(some**2, a.weight**2, a.bias**2, activation=activation)
        return y, bound("fp32", inputs + 1, squares, y)

    def exact_dx(a: SimpleNamespace) -> tuple[np.ndarray, Any]:
        some = _some(a.dz)
        return a.weight @ some, bound("fp32", outputs, a.weight**2 @ some**2, 0)

    def exact_dweight(a: SimpleNamespace) -> tuple[np.ndarray, Any]:
        x, dz = a.x[:: inputs // _SAMPLES], a.dz
        return x @ dz.T, bound("fp32", batch, x**2 @ (dz**2).T, 0)

    def exact_weight(a: SimpleNamespace) -> tuple[np.ndarray, Any]:
        some, (gradient, off) = a.weight[:: inputs // _SAMPLES], exact_dweight(a)
        step = _RATE * (1 + _MOMENTUM)
        return some - step * gradient, step * off + 8 * 2.0**-24 * (np.abs(some) + np.abs(gradient))

    def torch_moved(data: bool, torch: Any, **a: Any) -> Callable[[], Any]:
        parameter = torch.nn.Parameter(a["weight"])
        optimiser = torch.optim.SGD([parameter], _RATE, _MOMENTUM, nesterov=True, fused=True)

        def step() -> Any:
            dx = a["dz"] @ a["weight"].T if data else None
            parameter.grad = a["x"].T @ a["dz"]
            optimiser.step()
            return parameter if dx is None else dx

        return step

    def forward(torch: Any, **a: Any) -> Callable[[], Any]:
        turned = a["weight"].T.contiguous()

        def call() -> Any:
            z = torch.nn.functional.linear(a["x"], turned, a["bias"])
            return z.view(batch, -1, 2).amax(-1) if maxed else z

        return call

    yield problem(
        pass_name=FORWARD, work=work(FORWARD), exact=exact_y, sample=_some, finish=act, torch=forward,
        call=lambda d, a: lambda: d.operations.dense.forward(a.x, a.weight, a.bias, activation=activation)[0],
    )  # fmt: skip
    yield problem(
        pass_name=BACKWARD_DATA, work=work(BACKWARD_DATA), exact=exact_dx, sample=_some, call=ours(BACKWARD_DATA),
        torch=lambda torch, **a: lambda: a["dz"] @ a["weight"].T,
    )  # fmt: skip
    yield problem(
        pass_name=BACKWARD_WEIGHTS, work=work(BACKWARD_WEIGHTS), exact=exact_dweight, call=ours(BACKWARD_WEIGHTS),
        sample=lambda result: result[:: inputs // _SAMPLES],
        torch=lambda torch, **a: lambda: a["x"].T @ a["dz"],
    )  # fmt: skip
    moving = partial(problem, arrays=arrays | {"velocity": np.zeros_like(weight)}, in_place=True)
    yield moving(
        pass_name=BACKWARD_UPDATE_DATA, work=work(BACKWARD_UPDATE_DATA), call=moved(BACKWARD_UPDATE_DATA),
        exact=exact_dx, sample=_some, torch=partial(torch_moved, True),
    )  # fmt: skip
    yield moving(
        pass_name=BACKWARD_UPDATE, work=work(BACKWARD_UPDATE), call=moved(BACKWARD_UPDATE), exact=exact_weight,
        sample=lambda result: result[:: inputs // _SAMPLES], torch=partial(torch_moved, False),
    )  # fmt: skip
    yield problem(
        pass_name=BACKWARD_BIAS, work=work(BACKWARD_BIAS), call=ours(BACKWARD_BIAS),
        exact=lambda a: (a.dz.sum(axis=1), bound("fp32", batch, (a.dz**2).sum(axis=1), 0)),
        torch=lambda torch, **a: lambda: a["dz"].sum(0),
    )  # fmt: skip


_BUILDERS: dict[str, Callable[[int], Iterator[OpProblem]]] = {
    "dense": _dense,
    "nesterov": _nesterov,
    "maxpool2d": _maxpool2d,
    "conv2d_bias": _conv2d_bias,
    "viewpoints": _viewpoints,
    "warp": _warp,
    "dropout": _dropout,
    "maxout": _maxout,
    "relu": _relu,
    "constraints": _constraints,
    "clip": _clip,
    "mse": _mse,
    "finite": _finite,
}
