"""This project as an engine."""

from __future__ import annotations

import statistics
from itertools import pairwise
from typing import Any

import numpy as np

from gzkern.autograd.tape import Tape, Variable
from gzkern.device import KernelDevice, kernel_device, select, set_threads
from gzkern.models.network import Network, build_network
from gzkern.models.predictor import Predictor
from gzkern.nn.optimiser import Nesterov
from gzkern.runtime.capture import Program
from gzkern.runtime.kernel import Geometry
from gzkern.training.step import capture_step, take_step

from .engines import PREDICT, RATE, SHORTEST, STEP, Call, Case, Engine, example_batch
from .python_share import python_share
from .timing import SPIN

LOOKS = 20  # at each launch
_AHEAD = 20e-3  # seconds in which the host launches all of a pass


class Gzkern(Engine):
    """This project; where it launches kernels, a pass is recorded once and replayed as a whole.

    Args:
        case: see :class:`Case`.
        recorded: False walks the tape in every pass.
        side_stream: as in ``training.step.capture_step``.
    """

    def __init__(self, case: Case, *, recorded: bool = True, side_stream: bool = False):
        super().__init__()
        home = select(case.device)
        set_threads(home, case.threads)
        self._home, self._train, self._side_stream = home, case.config.train, side_stream
        self._network = build_network(case.config, home)
        self._network.precision = case.precision
        self._optimiser = Nesterov(home, self._network.parameters, self._train.momentum)
        self._optimiser.set_rate(RATE)
        self._crops, targets = example_batch(case.config)
        self._batch: Any = Batch(home.asarray(self._crops), home.asarray(np.ascontiguousarray(targets.T)))
        self._captured = recorded and isinstance(home, KernelDevice)
        self._programs: dict[str, Program] = {}
        self._answers: Any = None
        self._on_gpu = case.device == "cuda"
        if self._on_gpu:
            self.shortest = SHORTEST

    def start(self, what: str) -> Call:
        """See :class:`Engine`."""
        if not self._captured:
            return self._step if what == STEP else self._predict
        program = self._programs[what] = self._capture_step() if what == STEP else self._capture_prediction()
        return program.play

    def clock(self, call: Call, count: int) -> float:
        """See :class:`Engine`."""
        if not self._on_gpu:
            return super().clock(call, count)
        from cupy.cuda import Event, get_elapsed_time

        start, stop = Event(), Event()
        start.record()
        for _ in range(count):
            call()
        stop.record()
        stop.synchronize()
        return 1e-3 * float(get_elapsed_time(start, stop))

    def loss(self) -> float:
        """See :class:`Engine`."""
        return float("nan") if self._optimiser.bad_step() is not None else self._optimiser.take_total()

    def fetch(self) -> np.ndarray:
        """See :class:`Engine`."""
        answers = self._programs[PREDICT].outputs["answers"] if self._captured else self._answers
        return np.ascontiguousarray(self._home.asnumpy(answers)[:, : len(self._crops)].T)

    def peak_bytes(self) -> int:
        """See :class:`Engine`."""
        if not self._on_gpu:
            return super().peak_bytes()
        import cupy

        return cupy.get_default_memory_pool().total_bytes()

    def python_share(self) -> float:
        """Return the share of a step on the CPU that Python takes."""
        return python_share(self._step)

    def launches(self, what: str) -> list[tuple[str, str, float]]:
        """Return operation, kernel and median milliseconds of each launch of a recorded pass on a GPU.

        Launches run one after the other, those of the side stream too, and the 1 or 2 µs of an event between two
        are counted.
        """
        from cupy.cuda import Event, get_elapsed_time

        program = self._programs[what]
        looks = []
        for _ in range(LOOKS):
            events = [Event() for _ in range(len(program.calls) + 1)]
            SPIN(kernel_device(self._home).backend, Geometry((1,), (1,)), np.int64(1e9 * _AHEAD))
            events[0].record()
            for call, event in zip(program.calls, events[1:], strict=True):
                call()
                event.record()
            events[-1].synchronize()
            looks.append([get_elapsed_time(*pair) for pair in pairwise(events)])
        medians = map(statistics.median, zip(*looks, strict=True))
        return [(lnch.operation, lnch.kernel.name, ms) for lnch, ms in zip(program.launches, medians, strict=True)]

    def _step(self) -> None:
        tape = Tape(self._home, precision=self._network.precision)
        patches, targets = self._batch.batch(tape, self._network, None)
        drop, seed = self._train.dropout, self._train.seed
        take_step(self._network, self._optimiser, tape, patches, targets, constrained=True, drop=drop, seed=seed)

    def _predict(self) -> None:
        tape = Tape(self._home, recording=False, precision=self._network.precision)
        patches, _ = self._batch.batch(tape, self._network, None)
        variables = {name: Variable(array) for name, array in self._network.parameters.items()}
        self._answers = self._network.answers(tape, patches, variables).value

    def _capture_step(self) -> Program:
        return Program(capture_step(self._network, self._optimiser, self._train, self._batch, True, self._side_stream))

    def _capture_prediction(self) -> Program:
        """Capture the program that ``Predictor.predict`` replays."""
        captured = Predictor(self._network).prepare(len(self._crops), {"crops": self._crops})
        self._home.write(captured.inputs["crops"][: len(self._crops)], self._crops)
        return captured.program


class Batch:
    """One batch that lies on the device, in the place of a ``feeds.Feed``: every step takes it."""

    def __init__(self, crops: Any, targets: Any):
        self._crops, self._targets = crops, targets

    def batch(self, tape: Tape, network: Network, step: Any) -> tuple[Variable, Any]:
        """Patches and targets (A, B)."""
        crops = tape.device.external(self._crops, "crops")
        return network.patches(tape, Variable(crops)), tape.device.external(self._targets, "targets")
