"""Devices that tell apart what rounding does to numbers and what it does to decisions.

Pools and maxout send a gradient to the larger of their inputs, ReLU and the answers' constraints to those above 0.
Where two inputs nearly tie, rounding decides, and the gradient goes another way: an error as large as itself, from a
difference that does not matter. One device keeps what it decides; another, of float64, goes back by that.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from functools import partial
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np

from gzkern.device import Device, select

Decision = tuple[np.ndarray, np.ndarray | None]
"""A convolution's or dense layer's y, of which the sign counts, and its code."""


def witnessed(device: Device) -> tuple[Device, list[Decision]]:
    """The device, and a list that a forward pass on it fills, first layer first."""
    decisions: list[Decision] = []

    def forward(original: Callable[..., Any], *arrays: Any, **how: Any) -> Any:
        y, code = original(*arrays, **how)
        decisions.append((device.asnumpy(y), None if code is None else device.asnumpy(code)))
        return y, code

    return _with(device, lambda op: {"forward": partial(forward, op.forward), "backward": op.backward}), decisions


def following(decisions: Sequence[Decision]) -> Device:
    """``cpu``, but that one backward pass on it goes by these decisions in place of its own."""
    cpu, backwards, answers = select("cpu"), reversed(decisions), decisions[-1][0]

    def backward(original: Callable[..., Any], x: Any, weight: Any, y: Any, code: Any, *rest: Any, **how: Any) -> Any:
        return original(x, weight, *next(backwards), *rest, **how)

    def constraints_backward(gradient: np.ndarray, z: np.ndarray, *kept: Any) -> np.ndarray:
        return cpu.constraints.backward(gradient, _on_side_of(z, answers), *kept)

    follower = _with(cpu, lambda op: {"forward": op.forward, "backward": partial(backward, op.backward)})
    vars(follower)["constraints"] = SimpleNamespace(forward=cpu.constraints.forward, backward=constraints_backward)
    return follower


def differing(decisions: Sequence[Decision], others: Sequence[Decision]) -> tuple[int, int]:
    """In how many places two passes decided differently, and of how many."""
    differ = total = 0
    for (y, code), (other_y, other_code) in zip(decisions, others, strict=True):
        differ += int(np.count_nonzero((y > 0) != (other_y > 0) if code is None else code != other_code))
        total += y.size
    return differ, total


def _with(device: Device, functions: Callable[[ModuleType], dict[str, Callable[..., Any]]]) -> Device:
    """The device with these functions in place of its convolution's and its dense layer's."""
    other = copy(device)
    vars(other).update({name: SimpleNamespace(**functions(getattr(device, name))) for name in ("conv2d", "dense")})
    return other


def _on_side_of(z: np.ndarray, decided: np.ndarray) -> np.ndarray:
    """The values, moved over 0 by next to nothing where the others lie there."""
    return np.where(decided > 0, np.maximum(z, np.finfo(z.dtype).tiny), np.minimum(z, 0))
