"""A call of an operation with its arrays, its float64 result and PyTorch's call for it."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from types import SimpleNamespace
from typing import Any

import numpy as np

from gzkern.core.shapes import BACKWARD_WEIGHTS
from gzkern.device import Device

from ..operation_counts import BACKWARD_UPDATE, Work
from ..verify import worst
from .problem import Contender, Kept

BACKWARD = "backward"
SAMPLES = 4
"""Images, or rows of a weight, that are checked."""

Arrays = dict[str, np.ndarray]
Call = Callable[[], Any]
Start = Callable[[Device, SimpleNamespace], Call]
"""Takes a device and its arrays; returns the call that is timed."""

Expected = tuple[np.ndarray, Any]
"""A result in float64, and how far off another may be."""


class OpProblem:
    """One pass of an operation that is no product of a convolution; see :class:`.problem.Problem`.

    Args:
        name, pass_name, batch: of its row.
        work: operations and bytes, at least.
        arrays: on the host, by name.
        call: takes a device and its arrays; returns the call that is timed.
        exact: takes arrays in float64; returns the result, or the part that ``sample`` takes, and its allowed error.
        torch: takes PyTorch and its arrays; returns the call that is timed. None where PyTorch has no such call.
        sample: takes the part of a result that is checked.
        layer, variant: of its row.
        finish: adds on the host what a bare product lacks of the result.
        in_place: the call changes its arrays, so a call on fresh ones is checked.
    """

    precision = "fp32"

    def __init__(
        self,
        name: str,
        pass_name: str,
        batch: int,
        work: Work,
        arrays: Arrays,
        call: Start,
        exact: Callable[[SimpleNamespace], Expected],
        *,
        torch: Callable[..., Call] | None = None,
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
        """Call this project on a device.

        Raises:
            InputError: the device has no such call by itself.
        """

        def start() -> Kept:
            copies = {name: device.asarray(array.copy()) for name, array in self.arrays.items()}
            return Kept(self._call(device, SimpleNamespace(**copies)))

        return self.contender("ours", start, lambda result: self.sample(device.asnumpy(result)))

    def contender(self, plan: str, start: Callable[[], Kept], fetch: Callable[[Any], np.ndarray]) -> Contender:
        """Return a contender.

        Args:
            plan: in words.
            start: sets up a call on fresh arrays.
            fetch: takes the part of a result that is checked.
        """
        timed = start()

        def once() -> np.ndarray:
            fresh = start()
            fresh()
            return fetch(fresh.result)

        return Contender(plan, timed, once if self.in_place else lambda: fetch(timed.result))

    def check(self, got: np.ndarray) -> float:
        """Return the largest error of a sampled result as a fraction of its bound."""
        return worst(got, *self._expected)

    @cached_property
    def _expected(self) -> Expected:
        wide = {n: a.astype(np.float64) if a.dtype == np.float32 else a for n, a in self.arrays.items()}
        return self._exact(SimpleNamespace(**wide))

    def torch_arrays(self) -> Arrays:
        """Return the arrays in PyTorch's order: four extents as N,C,H,W, two with the batch first."""
        turned = {4: (3, 0, 1, 2), 2: (1, 0)}
        return {
            name: np.ascontiguousarray(a.transpose(turned[a.ndim])) if a.ndim in turned and name != "weight" else a
            for name, a in self.arrays.items()
        }

    def from_torch(self, result: np.ndarray) -> np.ndarray:
        """Return PyTorch's result in our order, sampled."""
        if result.ndim == 4 and self.name != "conv2d_bias":
            result = result.transpose(1, 2, 3, 0)
        elif result.ndim == 2 and self.pass_name not in (BACKWARD_WEIGHTS, BACKWARD_UPDATE):
            result = result.T
        return self.sample(result)

    def finish(self, product: np.ndarray, arrays: Arrays) -> np.ndarray:
        """Sample a bare product, after ``finish`` has added on the host what follows it."""
        return self.sample(self._finish(product, arrays) if self._finish else product)


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    """Draw float32 of a shape from a normal distribution."""
    return np.random.default_rng((seed, *shape)).standard_normal(shape, np.float32)


def within_ulps(exact: np.ndarray, count: int = 4) -> Expected:
    """Allow errors of so many units in float32's last place."""
    return exact, count * 2.0**-24 * np.abs(exact)


def some_images(result: np.ndarray) -> np.ndarray:
    """Take some images of a large result, which are its last extent."""
    return result[..., :: max(result.shape[-1] // SAMPLES, 1)]
