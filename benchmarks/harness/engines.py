"""Engines that train and predict, each in a process of its own, so that they share neither threads, memory nor mishaps.

A parent asks one engine after the other for one sample at a time: A, B, A, B, …, on an otherwise idle machine. On the
CPU a sample is one pass. On a GPU it is as many passes as take ``SHORTEST``, launched one after the other between two
CUDA events, without waiting for any of them.
"""

from __future__ import annotations

import contextlib
import math
import multiprocessing
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from gzkern.config import Config

STEP, PREDICT = "train_step", "predict"

SHORTEST = 50e-3  # seconds of a sample on a GPU
WARM_UPS = 5  # passes, in which engines compile, choose algorithms and capture
RATE = 1e-4  # of the training: small, so that thousands of steps on one batch stay tame
_PATIENCE = 900  # seconds for an answer; torch.compile takes minutes

Call = Callable[[], Any]


@dataclass(frozen=True)
class Case:
    """Network, device and precision at which engines are compared.

    The number of images is the configuration's, the threads are those of the CPU.
    """

    config: Config
    device: str
    precision: str
    threads: int


class Engine(ABC):
    """One way to train and predict.

    Attributes:
        shortest: seconds that a sample lasts at least.
    """

    shortest = 0.0

    def __init__(self) -> None:
        self._calls: dict[str, tuple[Call, int]] = {}

    @abstractmethod
    def start(self, what: str) -> Call:
        """Return a call that makes one pass, ``STEP`` or ``PREDICT``, and need not wait for its result."""

    def clock(self, call: Call, count: int) -> float:
        """Return the seconds of so many calls, one right after the other."""
        begin = time.perf_counter()
        for _ in range(count):
            call()
        return time.perf_counter() - begin

    @abstractmethod
    def loss(self) -> float:
        """Return the loss of the steps so far; not finite if that of one was not."""

    @abstractmethod
    def fetch(self) -> np.ndarray:
        """Return the answers (B, A) of the last prediction."""

    def peak_bytes(self) -> int:
        """Return the peak of memory: a GPU's, or this process's as Linux counts it since its start."""
        with open("/proc/self/status") as lines:
            return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))

    def answers(self) -> np.ndarray:
        """Return the answers (B, A) of a prediction."""
        self._call(PREDICT)[0]()
        return self.fetch()

    def sample(self, what: str) -> float:
        """Return the seconds of one pass."""
        call, count = self._call(what)
        return self.clock(call, count) / count

    def check(self, what: str) -> None:
        """Refuse to call a pass training that was none.

        Raises:
            RuntimeError: the training went astray.
        """
        if what == STEP and not math.isfinite(self.loss()):
            raise RuntimeError("its loss is not finite: what was timed was no training")

    def _call(self, what: str) -> tuple[Call, int]:
        """Return a pass, and the number of passes in a sample."""
        if what not in self._calls:
            call, count = self.start(what), 1
            if self.shortest:
                self.clock(call, WARM_UPS)
                count = math.ceil(self.shortest * WARM_UPS / self.clock(call, WARM_UPS))
            self._calls[what] = call, count
        return self._calls[what]


Build = Callable[[Case], Engine]


class Process:
    """An engine in a process; ``ask`` calls a method there."""

    def __init__(self, build: Build, case: Case):
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(build, case, theirs), daemon=True)
        self._process.start()
        theirs.close()  # so that the process's end is that of the pipe, too

    def ask(self, what: str, *arguments: Any) -> Any:
        """Call a method of the engine and return its result.

        Raises:
            RuntimeError: the engine failed; its own message.
        """
        try:
            self._pipe.send((what, arguments))
            if not self._pipe.poll(_PATIENCE):
                self._process.kill()
                raise RuntimeError(f"it did not answer within {_PATIENCE} s")
            fine, answer = self._pipe.recv()
        except (EOFError, OSError):
            raise RuntimeError("its process died; out of memory?") from None
        if not fine:
            raise RuntimeError(answer)
        return answer

    def close(self) -> None:
        """End the process."""
        with contextlib.suppress(OSError):
            self._pipe.send(None)
        self._process.join()


def _serve(build: Build, case: Case, pipe: Connection) -> None:
    engine, failure = None, ""
    try:
        engine = build(case)
    except Exception as error:  # whatever a library raises where it cannot
        failure = _sentence(error)
    while (request := pipe.recv()) is not None:
        what, arguments = request
        if engine is None:
            pipe.send((False, failure))
            continue
        try:
            pipe.send((True, getattr(engine, what)(*arguments)))
        except Exception as error:
            pipe.send((False, _sentence(error)))


def _sentence(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


def example_batch(config: Config) -> tuple[np.ndarray, np.ndarray]:
    """Return crops (B, 2, T, T, 3) float32 and answer fractions (B, 37), the same in every process.

    The first crops are the same for every B.
    """
    rng = np.random.default_rng(config.train.seed)
    target = config.data.target
    crops = rng.random((config.train.batch, 2, target, target, 3), np.float32)
    return crops, rng.random((config.train.batch, 37), np.float32)
