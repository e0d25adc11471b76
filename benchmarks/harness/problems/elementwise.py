"""Operations that compute every element by itself: ReLU, dropout, the update of the weights."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np

from gzkern.core.dropout_mask import DropoutMask
from gzkern.core.shapes import FORWARD
from gzkern.cpu import dropout as dropout_oracle
from gzkern.cpu import relu as relu_oracle
from gzkern.device import Device

from .. import operation_counts as counts
from . import layers
from .operation import BACKWARD, Call, OpProblem, normal, within_ulps

RATE, MOMENTUM = 0.01, 0.9
_MASK = DropoutMask(0.5, 1, 2, 3)


def relu(batch: int) -> Iterator[OpProblem]:
    """Yield ReLU, forward and backward, at the sizes of conv3."""
    sizes, _ = layers.published("conv3", batch)
    shape = sizes.y("relu")
    x, gradient = normal(*shape), normal(*shape, seed=1)
    yield OpProblem(
        "relu", FORWARD, batch, counts.relu_work(x.size, False), {"x": x},
        lambda d, a: lambda: d.operations.relu.forward(a.x), lambda a: within_ulps(relu_oracle.forward(a.x)),
        torch=lambda torch, x: lambda: torch.relu(x),
    )  # fmt: skip
    yield OpProblem(
        "relu", BACKWARD, batch, counts.relu_work(x.size, True), {"gradient": gradient, "y": relu_oracle.forward(x)},
        lambda d, a: lambda: d.operations.relu.backward(a.gradient, a.y),
        lambda a: within_ulps(relu_oracle.backward(a.gradient, a.y)),
        torch=lambda torch, gradient, y: lambda: torch.ops.aten.threshold_backward(gradient, y, 0),
    )  # fmt: skip


def dropout(batch: int) -> Iterator[OpProblem]:
    """Yield dropout of the first dense layer's input."""
    inputs = layers.dense_sizes()[0][0]
    x = normal(inputs, batch)
    yield OpProblem(
        "dropout", FORWARD, batch, counts.dropout_work(x.size), {"x": x},
        lambda d, a: lambda: d.operations.dropout.forward(a.x, _MASK),
        lambda a: within_ulps(dropout_oracle.forward_oracle(a.x, _MASK)),
    )  # fmt: skip


def nesterov(batch: int) -> Iterator[OpProblem]:
    """Yield the update of the first dense layer's weights."""
    inputs, outputs, _ = layers.dense_sizes()[0]
    size = inputs * outputs
    weight, gradient = (normal(size, seed=seed) for seed in (1, 3))
    arrays = {"weight": weight, "gradient": gradient, "velocity": np.zeros(size, np.float32)}

    def call(d: Device, a: SimpleNamespace) -> Call:
        first_bad = d.asarray(np.full(1, -1, np.int64))

        def update() -> Any:
            d.operations.nesterov.update(a.weight, a.velocity, a.gradient, RATE, MOMENTUM, first_bad)
            return a.weight

        return update

    def fused(torch: Any, **a: Any) -> Call:
        parameter = torch.nn.Parameter(a["weight"])
        parameter.grad = a["gradient"]
        optimiser = torch.optim.SGD([parameter], RATE, MOMENTUM, nesterov=True, fused=True)

        def step() -> Any:
            optimiser.step()
            return parameter

        return step

    yield OpProblem(
        "nesterov", "update", batch, counts.nesterov_work(size), arrays, call,
        lambda a: (
            (a.weight - RATE * (1 + MOMENTUM) * a.gradient)[:: size // 1000],
            8 * 2.0**-24 * (np.abs(a.weight) + np.abs(a.gradient))[:: size // 1000],
        ),
        torch=fused, sample=lambda result: result[:: size // 1000], in_place=True,
    )  # fmt: skip
