"""Devices that tell apart what rounding does to numbers and what it does to decisions.

Pools and maxout send a gradient to the larger of their inputs, ReLU and the answers' constraints to those above 0.
Where two inputs nearly tie, rounding decides, and the gradient goes another way: an error as large as itself, from a
difference that does not matter. One device keeps what it decides; another, of float64, goes back by that.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from gzkern.device import Device, select
from gzkern.runtime.operations import Operations

Decision = tuple[np.ndarray, np.ndarray | None]
"""A convolution's or dense layer's y, of which the sign counts, and its code."""


def witnessed(device: Device) -> tuple[Device, list[Decision]]:
    """Return the device, and a list that a forward pass on it fills, first layer first."""
    decisions: list[Decision] = []

    def forward(original: Callable[..., Any], *arrays: Any, **how: Any) -> Any:
        y, code = original(*arrays, **how)
        decisions.append((device.asnumpy(y), None if code is None else device.asnumpy(code)))
        return y, code

    conv2d, dense = device.operations.conv2d, device.operations.dense
    operations = replace(
        device.operations,
        conv2d=replace(conv2d, forward=partial(forward, conv2d.forward)),
        dense=replace(dense, forward=partial(forward, dense.forward)),
    )
    return _with(device, operations), decisions


def following(decisions: Sequence[Decision]) -> Device:
    """Return device ``cpu``, where one backward pass goes by these decisions in place of its own."""
    cpu, backwards, answers = select("cpu"), reversed(decisions), decisions[-1][0]

    def backward(original: Callable[..., Any], x: Any, weight: Any, y: Any, code: Any, *rest: Any, **how: Any) -> Any:
        decided, code = next(backwards)
        return original(x, weight, decided.astype(x.dtype), code, *rest, **how)

    def constraints_backward(gradient: np.ndarray, z: np.ndarray, *saved: Any) -> np.ndarray:
        return constraints.backward(gradient, _on_side_of(z, answers), *saved)

    conv2d, dense, constraints = cpu.operations.conv2d, cpu.operations.dense, cpu.operations.constraints
    operations = replace(
        cpu.operations,
        conv2d=replace(conv2d, backward=partial(backward, conv2d.backward)),
        dense=replace(dense, backward=partial(backward, dense.backward)),
        constraints=replace(constraints, backward=constraints_backward),
    )
    return _with(cpu, operations)


def differing(decisions: Sequence[Decision], others: Sequence[Decision]) -> tuple[int, int]:
    """Return the number of places in which two passes decided differently, and the number of all places."""
    differ = total = 0
    for (y, code), (other_y, other_code) in zip(decisions, others, strict=True):
        differ += int(np.count_nonzero((y > 0) != (other_y > 0) if code is None else code != other_code))
        total += y.size
    return differ, total


def _with(device: Device, operations: Operations) -> Device:
    """The device with other operations."""
    other = copy(device)
    other.operations = operations
    return other


def _on_side_of(z: np.ndarray, decided: np.ndarray) -> np.ndarray:
    """The values, moved over 0 by next to nothing where the others lie there."""
    return np.where(decided > 0, np.maximum(z, np.finfo(z.dtype).tiny), np.minimum(z, 0))
