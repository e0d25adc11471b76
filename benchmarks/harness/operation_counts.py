"""Operations and bytes of one call of an operation, at least: the only place where the benchmarks count them."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from gzkern.core.shapes import (
    BACKWARD_BIAS,
    BACKWARD_DATA,
    BACKWARD_WEIGHTS,
    FORWARD,
    VIEWS,
    Conv2dSizes,
    conv2d_macs,
    dense_macs,
    pool_extent,
)

BACKWARD_UPDATE, BACKWARD_UPDATE_DATA = "backward_update", "backward_update_data"
"""Passes of a dense layer that move its weights: alone, and with the gradient of the input."""


@dataclass(frozen=True)
class Work:
    """Operations and bytes of one call, at least.

    Attributes:
        flops: a multiply-add is two, a comparison or a copy none.
        bytes: to and from memory; each input is read once, each result written once.
    """

    flops: int
    bytes: int


def conv2d_work(sizes: Conv2dSizes, pass_name: str, epilogue: str, itemsize: int = 4) -> Work:
    """One pass of a convolution; ``itemsize`` is that of all arrays but the bias, which is float32, and the code."""
    outputs = prod(sizes.y(epilogue))
    saved = {"plain": 0, "relu": itemsize, "pool": 1}[epilogue] * outputs
    code = saved if epilogue == "pool" else 0
    x, weight, bias = prod(sizes.x) * itemsize, prod(sizes.weight) * itemsize, 4 * sizes.K * sizes.P * sizes.Q
    y = outputs * itemsize
    if pass_name == BACKWARD_BIAS:
        return Work(sizes.K * sizes.P * sizes.Q * sizes.N, y + saved + bias)
    moved = {
        FORWARD: x + weight + bias + y + code,
        BACKWARD_DATA: weight + y + saved + x,
        BACKWARD_WEIGHTS: x + y + saved + weight,
    }
    macs = conv2d_macs(sizes.C, sizes.R, sizes.S, sizes.K, sizes.P, sizes.Q, sizes.N)
    return Work(2 * macs, moved[pass_name])


def dense_work(inputs: int, outputs: int, batch: int, pass_name: str, activation: str) -> Work:
    """One pass of a dense layer: "linear", "relu" or "maxout" with two pieces a unit."""
    results = outputs // (2 if activation == "maxout" else 1) * batch
    saved = {"linear": 0, "relu": 4, "maxout": 1}[activation] * results
    code = saved if activation == "maxout" else 0
    x, weight, bias, y = 4 * inputs * batch, 4 * inputs * outputs, 4 * outputs, 4 * results
    if pass_name == BACKWARD_BIAS:
        return Work(outputs * batch, y + saved + bias)
    moved = {
        FORWARD: x + weight + bias + y + code,
        BACKWARD_DATA: weight + y + saved + x,
        BACKWARD_WEIGHTS: x + y + saved + weight,
        BACKWARD_UPDATE: x + y + saved + 4 * weight,  # weights and velocities, there and back
        BACKWARD_UPDATE_DATA: 2 * x + y + saved + 4 * weight,
    }
    products = 2 if pass_name == BACKWARD_UPDATE_DATA else 1
    return Work(2 * products * dense_macs(inputs, outputs, batch), moved[pass_name])


def maxpool2d_work(C: int, H: int, W: int, N: int) -> Work:
    """Either pass of a 2×2 max-pool: the large array, the small one, its code."""
    return Work(0, 4 * C * H * W * N + 5 * C * pool_extent(H) * pool_extent(W) * N)


def maxout_work(units: int, batch: int) -> Work:
    """Either pass of a maxout with two pieces: both of them, the unit, its code."""
    return Work(0, 13 * units * batch)


def relu_work(size: int, backward: bool) -> Work:
    """A rectifier; its backward pass reads y as well."""
    return Work(0, (12 if backward else 8) * size)


def dropout_work(size: int) -> Work:
    """Either pass of dropout; its mask is computed."""
    return Work(size, 8 * size)


def mse_work(size: int, backward: bool) -> Work:
    """The mean squared error of so many answers, or its gradient."""
    return Work(3 * size, 12 * size + 4 if backward else 8 * size + 4)


def nesterov_work(size: int) -> Work:
    """An update of so many parameters: weight and velocity read and written, the gradient read."""
    return Work(7 * size, 20 * size)


def nan_guard_work(size: int) -> Work:
    """The watch over so many values."""
    return Work(0, 4 * size)


def viewpoints_work(batch: int, target: int, extent: int, itemsize: int = 4) -> Work:
    """Either pass of the viewpoints: two crops an image of ``itemsize`` bytes a value, their patches."""
    return Work(0, batch * 3 * (2 * target**2 * itemsize + VIEWS * extent**2 * 4))


def warp_work(batch: int, target: int, extent: int) -> Work:
    """The warp: four pixels about each sample of one crop (the other may share them), patches; three means, a shift."""
    samples = batch * 2 * target**2
    return Work((2 * 4 + 3 * (3 * 3 + 2)) * samples, 4 * 3 * samples // 2 + batch * 3 * VIEWS * extent**2 * 4)


def constraints_work(answers: int, batch: int, backward: bool) -> Work:
    """The output layer: z, p and q; backward also the gradients of p and z."""
    return Work(3 * answers * batch, (20 if backward else 12) * answers * batch)


def clip_work(size: int, backward: bool) -> Work:
    """The output of the warm-up; backward reads z as well."""
    return Work(0, (12 if backward else 8) * size)
