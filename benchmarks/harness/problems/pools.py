"""Operations that take the largest of several inputs: max-pool and maxout."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from gzkern.config import load_config
from gzkern.core.shapes import FORWARD
from gzkern.cpu import maxout as maxout_oracle
from gzkern.cpu import maxpool2d as maxpool2d_oracle

from .. import operation_counts as counts
from . import layers
from .data import Data
from .operation import BACKWARD, Call, OpProblem, normal, some_images, within_ulps


def maxpool2d(batch: int) -> Iterator[OpProblem]:
    """Yield the max-pool of conv1, forward and backward."""
    sizes, variant = layers.published("conv1", batch)
    data = Data(sizes, variant)
    x, y, code, gradient = data.activations, data.y, data.saved, data.gradient
    assert code is not None
    K, P, Q, N = x.shape
    counted = counts.maxpool2d_work(K, P, Q, N)

    def pool(torch: Any, **a: Any) -> Call:
        return lambda: torch.nn.functional.max_pool2d(a["x"], 2, ceil_mode=True)

    def unpool(torch: Any, **a: Any) -> Call:
        indices = torch.nn.functional.max_pool2d(a["x"], 2, ceil_mode=True, return_indices=True)[1]
        window = [2, 2], [2, 2], [0, 0], [1, 1], True
        return lambda: torch.ops.aten.max_pool2d_with_indices_backward(a["gradient"], a["x"], *window, indices)

    yield OpProblem(
        "maxpool2d", FORWARD, batch, counted, {"x": x, "y": y},
        lambda d, a: lambda: d.operations.maxpool2d.forward(a.x)[0],
        lambda a: within_ulps(some_images(a.y)), torch=pool, sample=some_images,
    )  # fmt: skip
    # Where the maximum is 0, our code passes no gradient and PyTorch's does: the gradient given is 0 there.
    rectified = np.where(code > 0, gradient, 0)
    yield OpProblem(
        "maxpool2d", BACKWARD, batch, counted, {"x": x, "y": y, "code": code, "gradient": rectified},
        lambda d, a: lambda: d.operations.maxpool2d.backward(a.gradient, a.code, P, Q),
        lambda a: within_ulps(maxpool2d_oracle.backward(some_images(a.gradient), some_images(a.code), P, Q)),
        torch=unpool, sample=some_images,
    )  # fmt: skip


def maxout(batch: int) -> Iterator[OpProblem]:
    """Yield the maxout of the first dense layer, forward and backward."""
    units = load_config("paper").model.units[0]
    x, gradient = normal(2 * units, batch), normal(units, batch, seed=1)
    _, code = maxout_oracle.forward(x)
    counted = counts.maxout_work(units, batch)

    def backward(torch: Any, **a: Any) -> Call:
        x = a["x"].requires_grad_()
        with torch.enable_grad():
            y = x.view(batch, units, 2).amax(-1)
        return lambda: torch.autograd.grad(y, x, a["gradient"], retain_graph=True)[0]

    yield OpProblem(
        "maxout", FORWARD, batch, counted, {"x": x},
        lambda d, a: lambda: d.operations.maxout.forward(a.x)[0], lambda a: within_ulps(maxout_oracle.forward(a.x)[0]),
        torch=lambda torch, x: lambda: x.view(batch, units, 2).amax(-1),
    )  # fmt: skip
    yield OpProblem(
        "maxout", BACKWARD, batch, counted, {"x": x, "gradient": gradient, "code": code},
        lambda d, a: lambda: d.operations.maxout.backward(a.gradient, a.code),
        lambda a: within_ulps(maxout_oracle.backward(a.gradient, a.code)), torch=backward,
    )  # fmt: skip
