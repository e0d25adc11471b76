"""One pass of one convolution of the published network: its sizes, its data, its float64 result on samples."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property, partial
from typing import Any

import numpy as np

from gzkern.core.bfloat16 import from_bfloat16, to_bfloat16
from gzkern.core.shapes import BACKWARD_DATA, BACKWARD_WEIGHTS, FORWARD, Conv2dSizes
from gzkern.cpu import conv2d as oracle
from gzkern.cpu import maxpool2d, relu
from gzkern.device import Device
from gzkern.errors import InputError

from ..operation_counts import conv2d_work
from ..verify import bound, worst
from .data import DISTINCT, Data
from .problem import Contender, Kept


class ConvProblem:
    """One pass of a convolution; see :class:`.problem.Problem`."""

    name = "conv2d"

    def __init__(self, layer: str, pass_name: str, epilogue: str, precision: str, batch: int, sizes: Conv2dSizes):
        self.layer, self.pass_name, self.epilogue = layer, pass_name, epilogue
        self.precision, self.batch, self.sizes = precision, batch, sizes
        self.itemsize = 2 if precision == "bf16" else 4
        self.work = conv2d_work(sizes, pass_name, epilogue, self.itemsize)
        self.images = sorted({0, sizes.N // 2, sizes.N - 1})
        self.filters = sorted({(0, 0), (sizes.C - 1, sizes.K - 1)})
        on = f"filters {self.filters}" if pass_name == BACKWARD_WEIGHTS else f"images {self.images}"
        self.checked = f"float64 on {on}"

    @property
    def variant(self) -> str:
        """The epilogue."""
        return self.epilogue

    def array(self, name: str) -> Any:
        """Return an array of :class:`.data.Data`; in bf16 rounded to it, still as float32, but the bias and codes."""
        array = getattr(Data(self.sizes, self.epilogue), name)
        if self.precision == "bf16" and array is not None and array.dtype == np.float32 and name != "bias":
            return from_bfloat16(to_bfloat16(array))
        return array

    def ours(self, device: Device) -> Contender:
        """Call the kernels of a device, or the fast paths of the CPU.

        Raises:
            InputError: the device has no kernel of this precision.
        """
        if device.name == "cpu" and self.precision != "fp32":
            raise InputError("the CPU computes in fp32 alone")
        if device.name == "cpu":
            return self._contender(device, "C,H,W,N", self._on_cpu())
        return self.by(device, "C,H,W,N")

    def by(self, device: Device, plan: str, **how: Any) -> Contender:
        """Call the pass on a device that runs kernels, with ``how`` as options: ``version``, ``tile``."""
        from gzkern.cuda.conv2d import operation

        function = getattr(operation, {FORWARD: "convolve"}.get(self.pass_name, self.pass_name))
        arguments = self._on_device(device)

        def call() -> Any:
            result = function(**arguments, precision=self.precision, **how)
            return result[0] if self.pass_name == FORWARD else result

        return self._contender(device, plan, call)

    def _contender(self, device: Device, plan: str, call: Any) -> Contender:
        saved = Kept(call)
        return Contender(plan, saved, lambda: self._sampled(device, saved.result))

    def _on_device(self, device: Device) -> dict[str, Any]:
        """Arguments of the pass, but for the precision."""

        def put(name: str) -> Any:
            array = self.array(name)
            if array is None:
                return None
            bits = self.precision == "bf16" and array.dtype == np.float32 and name != "bias"
            return device.asarray(to_bfloat16(array) if bits else array)

        names = {FORWARD: ("x", "weight", "bias"), BACKWARD_DATA: ("weight",), BACKWARD_WEIGHTS: ("x",)}[self.pass_name]
        arguments = {name: put(name) for name in names} | {"epilogue": self.epilogue}
        if self.pass_name == FORWARD:
            return arguments
        return arguments | {"gradient": put("gradient"), "saved": put("saved"), "sizes": self.sizes}

    def _on_cpu(self) -> Any:
        from numba import get_num_threads

        from gzkern.cpu import conv2d
        from gzkern.cpu.jit import conv2d as jit

        s, epilogue = self.sizes, self.epilogue
        if self.pass_name == FORWARD:
            x, weight, bias = (self.array(name) for name in ("x", "weight", "bias"))
            return lambda: conv2d.forward(x, weight, bias, activate=epilogue != "plain", pool=epilogue == "pool")[0]
        gradient, saved = self.array("gradient"), self.array("saved")
        dz, dbias = np.empty((s.K, s.P, s.Q, s.N), np.float32), np.empty((s.K, s.P, s.Q), np.float32)

        def masked() -> np.ndarray:
            if epilogue == "plain":
                return gradient
            (jit.unpool if epilogue == "pool" else jit.mask_relu)(gradient, saved, dz, dbias)
            return dz

        if self.pass_name == BACKWARD_DATA:
            turned = np.ascontiguousarray(self.array("weight").transpose(3, 1, 2, 0))
            dx = np.empty(s.x, np.float32)

            def data() -> np.ndarray:
                jit.backward_data(masked(), turned, dx)
                return dx

            return data
        x, dweight = self.array("x"), np.empty(s.weight, np.float32)

        def weights() -> np.ndarray:
            jit.backward_weights(x, masked(), dweight, get_num_threads())
            return dweight

        return weights

    def _sampled(self, device: Device, result: Any) -> np.ndarray:
        array = device.asnumpy(result)
        if array.dtype == np.uint16:
            array = from_bfloat16(array)
        return array if self.pass_name == BACKWARD_WEIGHTS else array[..., self.images]

    def check(self, got: np.ndarray) -> float:
        """Return the largest error as a fraction of its bound.

        Args:
            got: y or dx (channels, height, width, images of ``images``), or dweight (C, R, S, K).
        """
        if self.pass_name == BACKWARD_WEIGHTS:
            if got.shape != self.sizes.weight:
                return float("inf")
            return max(
                worst(got[c, :, :, k], exact, allowed)
                for (c, k), (exact, allowed) in zip(self.filters, self._expected, strict=True)
            )
        ((exact, allowed),) = self._expected
        return worst(got, exact, allowed)

    @cached_property
    def _expected(self) -> list[tuple[np.ndarray, Any]]:
        if self.pass_name == FORWARD:
            return [self._expected_y()]
        if self.pass_name == BACKWARD_DATA:
            return [self._expected_dx()]
        return list(self._expected_dweight())

    def _expected_y(self) -> tuple[np.ndarray, Any]:
        s = self.sizes
        x, weight, bias = (self.array(name) for name in ("x", "weight", "bias"))
        wide = [array.astype(np.float64) for array in (x[..., self.images], weight, bias)]
        forward = partial(oracle.forward_oracle, activate=self.epilogue != "plain", pool=self.epilogue == "pool")
        exact, _ = forward(*wide)
        squares, _ = forward(*(array**2 for array in wide))  # of a pool the largest bound
        return exact, bound(self.precision, s.C * s.R * s.S + 1, squares, exact)

    def _expected_dx(self) -> tuple[np.ndarray, Any]:
        s = self.sizes
        dz, weight = self._dz(self.images), self.array("weight").astype(np.float64)
        nothing = np.zeros((*s.x[:3], len(self.images)))
        exact, squares = (
            oracle.backward_oracle(nothing, w, nothing, None, g, activate=False)[0]
            for w, g in ((weight, dz), (weight**2, dz**2))
        )
        assert exact is not None
        return exact, bound(self.precision, s.K * s.R * s.S, squares, exact)

    def _expected_dweight(self) -> Iterator[tuple[np.ndarray, Any]]:
        s = self.sizes
        distinct = DISTINCT if s.N % DISTINCT == 0 else s.N
        times = s.N // distinct
        for c, k in self.filters:
            x, dz = self.array("x")[c, ..., :distinct].astype(np.float64), self._dz(slice(distinct), k)[0]
            exact, squares = np.empty((s.R, s.S)), np.empty((s.R, s.S))
            for r in range(s.R):
                for q in range(s.S):
                    window = x[r : r + s.P, q : q + s.Q]
                    exact[r, q] = times * np.vdot(window, dz)
                    squares[r, q] = times * np.vdot(window * window, dz * dz)
            yield exact, bound(self.precision, s.P * s.Q * s.N, squares, exact)

    def _dz(self, images: Any, k: int | None = None) -> np.ndarray:
        """The gradient of the sums, in float64, of some images and one filter or all."""
        filters = slice(None) if k is None else slice(k, k + 1)
        gradient = self.array("gradient")[filters][..., images].astype(np.float64)
        if self.epilogue == "plain":
            return gradient
        saved = self.array("saved")[filters][..., images]
        if self.epilogue == "relu":
            return relu.backward(gradient, saved.astype(gradient.dtype))
        return maxpool2d.backward(gradient, saved, self.sizes.P, self.sizes.Q)
