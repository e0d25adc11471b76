"""Gradients of the convolutions' biases."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace

from gzkern.core.shapes import BACKWARD_BIAS, Conv2dSizes
from gzkern.cpu import maxpool2d, relu
from gzkern.device import Device
from gzkern.errors import InputError

from ..operation_counts import conv2d_work
from ..verify import bound
from . import layers
from .data import Data
from .operation import Arrays, Call, Expected, OpProblem


def conv2d_bias(batch: int) -> Iterator[OpProblem]:
    """Yield the gradient of each layer's bias."""
    for layer in layers.LAYERS:
        yield _gradient(layer, *layers.published(layer, batch), batch)


def _gradient(layer: str, sizes: Conv2dSizes, epilogue: str, batch: int) -> OpProblem:
    data = Data(sizes, epilogue)
    assert data.saved is not None
    arrays: Arrays = {"gradient": data.gradient, "saved": data.saved}

    def call(d: Device, a: SimpleNamespace) -> Call:
        if d.name == "cpu":
            raise InputError("the CPU computes the gradient of the bias with the other two")
        from gzkern.cuda.conv2d import operation as kernels

        return lambda: kernels.backward_bias(a.gradient, a.saved, epilogue, sizes)

    def exact(a: SimpleNamespace) -> Expected:
        gradient, saved = a.gradient[:2], a.saved[:2]
        pool = epilogue == "pool"
        dz = maxpool2d.backward(gradient, saved, sizes.P, sizes.Q) if pool else relu.backward(gradient, saved)
        return dz.sum(axis=3), bound("fp32", sizes.N, (dz**2).sum(axis=3), 0)

    return OpProblem(
        "conv2d_bias", BACKWARD_BIAS, batch, conv2d_work(sizes, BACKWARD_BIAS, epilogue), arrays, call, exact,
        layer=layer, variant=epilogue, sample=lambda result: result[:2],
    )  # fmt: skip
