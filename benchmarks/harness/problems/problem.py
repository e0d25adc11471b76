"""What is measured: one call of one operation, what it must do at least, and how its result is checked."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from gzkern.device import Device
from gzkern.runtime.kernel import Kernel

from ..work import Work


@dataclass(frozen=True)
class Contender:
    """Someone's way to do it.

    Attributes:
        plan: layout and algorithm, in words.
        run: one call, which need not wait for its result.
        fetch: what the last call left, or of it what is checked, as the problem's ``check`` takes it.
    """

    plan: str
    run: Callable[[], Any]
    fetch: Callable[[], np.ndarray]


class Problem(Protocol):
    """One call, with its data on the host."""

    @property
    def name(self) -> str:
        """Of the operation."""

    @property
    def layer(self) -> str | None:
        """Whose sizes these are."""

    @property
    def pass_name(self) -> str:
        """Which pass."""

    @property
    def variant(self) -> str | None:
        """What comes with it."""

    @property
    def precision(self) -> str:
        """Of its products."""

    @property
    def batch(self) -> int:
        """Images."""

    @property
    def work(self) -> Work:
        """At least."""

    @property
    def checked(self) -> str:
        """What ``check`` compares with."""

    def ours(self, device: Device) -> Contender:
        """This project on a device.

        Raises:
            InputError: it has no kernel for this.
        """

    def check(self, got: np.ndarray) -> float:
        """The largest error as a fraction of its bound."""


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
    """The names of the kernels launched meanwhile, in order."""
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
