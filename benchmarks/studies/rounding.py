"""The CPU device with the operands of every product rounded to tf32, as the kernels round theirs.

It shows the effect of tf32 on learning without a GPU. Tensor cores compute something else: sums are the CPU's, in
float32. What is no product (gradients of biases, ReLU, pools, maxout, dropout, the update) is not rounded, as in the
kernels.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from gzkern.device import Device, select
from gzkern.runtime.operations import Conv2d, Dense

CAVEAT = "operands rounded as the kernels round them; sums in float32; not tensor cores"


class RoundingDevice(Device):
    """Device ``cpu`` with rounded operands of ``conv2d`` and ``dense``."""

    def __init__(self) -> None:
        cpu = select("cpu")
        conv2d, dense = Rounded(cpu.operations.conv2d), Rounded(cpu.operations.dense)
        operations = replace(
            cpu.operations,
            conv2d=Conv2d(conv2d.forward, conv2d.backward),
            dense=Dense(dense.forward, dense.backward),
        )
        super().__init__("cpu", cpu.backend, operations, cpu.precisions)

    def describe(self) -> dict[str, Any]:
        """Return the fact that tells its runs from those of ``cpu``."""
        return {"products": CAVEAT}


class Rounded:
    """Operation ``conv2d`` or ``dense`` of the CPU on rounded operands, float32."""

    def __init__(self, operation: Conv2d | Dense):
        self._operation = operation

    def forward(self, x: np.ndarray, weight: np.ndarray, bias: np.ndarray, **how: Any) -> Any:
        """Call the operation on rounded operands."""
        return self._operation.forward(to_tf32(x), to_tf32(weight), bias, **how)

    def backward(
        self, x: np.ndarray, weight: np.ndarray, y: np.ndarray, code: Any, gradient: np.ndarray, **how: Any
    ) -> Any:
        """Call the operation on rounded operands.

        The operand dz is ``gradient`` or 0 at each place, so it is rounded with the gradient.
        """
        if drop := how.pop("drop", None):  # of the mask only the scale is needed
            gradient = gradient * drop.scale
        dx, dweight, _ = self._operation.backward(to_tf32(x), to_tf32(weight), y, code, to_tf32(gradient), **how)
        _, _, dbias = self._operation.backward(x[:0], weight[:0], y, code, gradient, **{**how, "data": False})
        return dx, dweight, dbias


def to_tf32(x: np.ndarray) -> np.ndarray:
    """Round float32 to the nearest number with 10 bits of mantissa, ties away from zero, as cvt.rna.tf32.f32 does."""
    bits = x.view(np.uint32)
    nearest = (bits + np.uint32(0x1000)) & np.uint32(0xFFFFE000)
    return np.where(np.isfinite(x), nearest, bits).view(np.float32)
