"""A problem: one call of one operation, its work, the check of its result; and a contender that solves it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from gzkern.device import Device
from gzkern.runtime.kernel import Kernel

from ..operation_counts import Work


@dataclass(frozen=True)
class Contender:
    """One way to solve a problem.

    Attributes:
        plan: layout and algorithm, in words.
        run: one call, which need not wait for its result.
        fetch: returns the result of the last call, or the part of it that the problem's ``check`` takes.
    """

    plan: str
    run: Callable[[], Any]
    fetch: Callable[[], np.ndarray]


class Problem(Protocol):
    """One call, with its data on the host."""

    @property
    def name(self) -> str:
        """Name of the operation."""

    @property
    def layer(self) -> str | None:
        """Layer whose sizes these are."""

    @property
    def pass_name(self) -> str:
        """Pass of the layer."""

    @property
    def variant(self) -> str | None:
        """Epilogue, activation or type of the input."""

    @property
    def precision(self) -> str:
        """Precision of the products."""

    @property
    def batch(self) -> int:
        """Number of images."""

    @property
    def work(self) -> Work:
        """Operations and bytes, at least."""

    @property
    def checked(self) -> str:
        """Reference of ``check``, in words."""

    def ours(self, device: Device) -> Contender:
        """Call this project on a device.

        Raises:
            InputError: the device has no kernel for this.
        """

    def check(self, got: np.ndarray) -> float:
        """Return the largest error as a fraction of its bound."""


class Kept:
    """A call that keeps its last result, so that it can be looked at."""

    def __init__(self, call: Callable[[], Any]):
        self._call = call
        self.result: Any = None

    def __call__(self) -> None:
        """Make the call."""
        self.result = self._call()


@contextmanager
def launches() -> Iterator[list[str]]:
    """Yield the names of the kernels launched meanwhile, in order."""
    names: list[str] = []
    launch = Kernel.__call__

    def noted(kernel: Kernel, *arguments: Any) -> None:
        names.append(kernel.name)
        launch(kernel, *arguments)

    Kernel.__call__ = noted  # type: ignore[method-assign, assignment]
    try:
        yield names
    finally:
        Kernel.__call__ = launch  # type: ignore[method-assign]
