"""Operations on the answers of the network: constraints of the decision tree, clip, loss, watch for NaN."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np

from gzkern.core.shapes import FORWARD
from gzkern.cpu import constraints as output_layer
from gzkern.decision_trees.tree import load_tree
from gzkern.device import Device

from .. import operation_counts as counts
from ..verify import bound
from .operation import BACKWARD, Call, Expected, OpProblem, normal, within_ulps


def constraints(batch: int) -> Iterator[OpProblem]:
    """Yield the output layer, forward and backward."""
    tree = load_tree()
    z, gradient = normal(len(tree), batch) + 1, normal(len(tree), batch, seed=1)
    p, conditional = output_layer.forward(z, tree)

    def answers(torch: Any, z: Any) -> Any:
        from ...baselines.torch_network import TorchNetwork

        return TorchNetwork._constrain(SimpleNamespace(tree=tree), z)  # type: ignore[arg-type]

    def backward(torch: Any, **a: Any) -> Call:
        z = a["z"].requires_grad_()
        with torch.enable_grad():
            p = answers(torch, z)
        return lambda: torch.autograd.grad(p, z, a["gradient"], retain_graph=True)[0]

    def exact(a: SimpleNamespace) -> Expected:
        dz = output_layer.backward(a.gradient, a.z, *output_layer.forward(a.z, tree), tree)
        return dz, 64 * 2.0**-24 * np.abs(dz).max(axis=0)

    yield OpProblem(
        "constraints", FORWARD, batch, counts.constraints_work(len(tree), batch, False), {"z": z},
        lambda d, a: lambda: d.operations.constraints.forward(a.z, tree)[0],
        lambda a: within_ulps(output_layer.forward(a.z, tree)[0], 32),
        torch=lambda torch, z: lambda: answers(torch, z),
    )  # fmt: skip
    yield OpProblem(
        "constraints", BACKWARD, batch, counts.constraints_work(len(tree), batch, True),
        {"gradient": gradient, "z": z, "p": p, "conditional": conditional},
        lambda d, a: lambda: d.operations.constraints.backward(a.gradient, a.z, a.p, a.conditional, tree),
        exact, torch=backward,
    )  # fmt: skip


def clip(batch: int) -> Iterator[OpProblem]:
    """Yield the output layer of the warm-up, forward and backward."""
    answers = len(load_tree())
    z, gradient = normal(answers, batch), normal(answers, batch, seed=1)
    yield OpProblem(
        "clip", FORWARD, batch, counts.clip_work(z.size, False), {"z": z},
        lambda d, a: lambda: d.operations.constraints.clip_forward(a.z), lambda a: within_ulps(np.clip(a.z, 0, 1)),
        torch=lambda torch, z: lambda: z.clamp(0, 1),
    )  # fmt: skip
    yield OpProblem(
        "clip", BACKWARD, batch, counts.clip_work(z.size, True), {"gradient": gradient, "z": z},
        lambda d, a: lambda: d.operations.constraints.clip_backward(a.gradient, a.z),
        lambda a: within_ulps(a.gradient * ((a.z > 0) & (a.z < 1))),
        torch=lambda torch, gradient, z: lambda: torch.ops.aten.hardtanh_backward(gradient, z, 0, 1),
    )  # fmt: skip


def mse(batch: int) -> Iterator[OpProblem]:
    """Yield the loss and its gradient."""
    answers = len(load_tree())
    p, targets = normal(answers, batch), normal(answers, batch, seed=1)
    gradient = np.ones((), np.float32)
    yield OpProblem(
        "mse", FORWARD, batch, counts.mse_work(p.size, False), {"p": p, "targets": targets},
        lambda d, a: lambda: d.operations.mse.forward(a.p, a.targets),
        lambda a: (np.mean((a.p - a.targets) ** 2), bound("fp32", p.size, np.mean((a.p - a.targets) ** 4), 0)),
        torch=lambda torch, p, targets: lambda: torch.nn.functional.mse_loss(p, targets),
    )  # fmt: skip
    yield OpProblem(
        "mse", BACKWARD, batch, counts.mse_work(p.size, True), {"gradient": gradient, "p": p, "targets": targets},
        lambda d, a: lambda: d.operations.mse.backward(a.gradient, a.p, a.targets),
        lambda a: within_ulps(2 * (a.p - a.targets) / p.size),
        torch=lambda torch, gradient, p, targets: (
            lambda: torch.ops.aten.mse_loss_backward(gradient, p, targets, 1)
        ),
    )  # fmt: skip


def nan_guard(batch: int) -> Iterator[OpProblem]:
    """Yield the watch for answers that are not finite."""
    values = normal(len(load_tree()), batch)

    def call(d: Device, a: SimpleNamespace) -> Call:
        step, first_bad = d.asarray(np.full(1, 7)), d.asarray(np.full(1, -1, np.int64))

        def check() -> Any:
            d.operations.nan_guard.check(a.values, step, first_bad)
            return first_bad

        return check

    yield OpProblem(
        "nan_guard", FORWARD, batch, counts.nan_guard_work(values.size), {"values": values}, call,
        lambda a: (np.full(1, -1.0), 0.0),
        torch=lambda torch, values: lambda: torch.isfinite(values).all().view(1).float() - 2,
    )  # fmt: skip
