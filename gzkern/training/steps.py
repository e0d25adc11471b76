"""The steps of a training run: one after the other on the CPU, by replaying a recorded one on other devices."""

from __future__ import annotations

from typing import Any, Protocol

from ..augment.pool import BatchPool
from ..autograd.tape import Tape, Variable
from ..config import TrainConfig
from ..device import KernelDevice, kernel_device
from ..models.network import Network
from ..nn.optimiser import Nesterov
from ..nn.schedule import learning_rate, warmup_steps
from ..runtime.capture import CapturingBackend, Program
from .feeds import Feed, Report
from .step import take_step


class Steps(Protocol):
    """What training asks for."""

    images: Any
    """All images, where they lie on the device; else None."""

    def take(self, step: int) -> None:
        """Take a step: the next one."""

    def take_report(self) -> Report:
        """See ``feeding.Feed``."""

    def close(self) -> None:
        """End what works ahead."""


class EagerSteps:
    """Each step is computed as its Python runs.

    Args:
        network: to train.
        optimiser: of its parameters.
        train: the schedule.
        pool: the batches, from the first step on.
    """

    images = None

    def __init__(self, network: Network, optimiser: Nesterov, train: TrainConfig, pool: BatchPool):
        self._network, self._optimiser, self._train = network, optimiser, train
        self._pool = pool

    def take(self, step: int) -> None:
        """See :class:`Steps`."""
        batch = self._pool.take()
        _prepare(self._optimiser, self._train, step)
        device = self._network.device
        tape = Tape(device, precision=self._network.precision)
        patches = self._network.patches(tape, Variable(device.asarray(batch.crops)))
        targets = device.asarray(batch.targets)
        take_step(
            self._network,
            self._optimiser,
            tape,
            patches,
            targets,
            constrained=step >= warmup_steps(self._train),
            drop=self._train.dropout,
            seed=self._train.seed,
        )
        self._pool.release()

    def take_report(self) -> Report:
        """See :class:`Steps`."""
        return self._pool.take_report()

    def close(self) -> None:
        """See :class:`Steps`."""
        self._pool.close()


class CapturedSteps:
    """A step of the warm-up and one of the rest are recorded where they are first taken, and replayed.

    Args:
        network: to train, on a device that launches kernels.
        optimiser: of its parameters.
        train: the schedule.
        feed: the batches, from the first step on.
    """

    def __init__(self, network: Network, optimiser: Nesterov, train: TrainConfig, feed: Feed):
        self._network, self._optimiser, self._train, self._feed = network, optimiser, train, feed
        self.images = feed.images
        self._program: Program | None = None
        self._constrained: bool | None = None

    def take(self, step: int) -> None:
        """See :class:`Steps`."""
        constrained = step >= warmup_steps(self._train)
        if self._program is None or constrained != self._constrained:
            self._program, self._constrained = None, constrained  # one arena at a time
            self._program = Program(record(self._network, self._optimiser, self._train, self._feed, constrained))
        self._feed.provide(step)
        _prepare(self._optimiser, self._train, step)
        self._program.play()

    def take_report(self) -> Report:
        """See :class:`Steps`."""
        return self._feed.take_report()

    def close(self) -> None:
        """See :class:`Steps`."""
        self._feed.close()


def record(
    network: Network,
    optimiser: Nesterov,
    train: TrainConfig,
    feed: Feed,
    constrained: bool,
    side_stream: bool = False,
) -> CapturingBackend:
    """Record the launches of one training step, from its batch to its update; nothing runs.

    The fused update of the dense weights is the default in every precision: by its registers and shared memory, an
    update on the side stream finds no room on a multiprocessor beside the fp32 convolutions. ``side_stream`` chooses
    it, see ``update.Update``.
    """
    recorder = CapturingBackend(kernel_device(network.device).backend)
    device = KernelDevice(network.device.name, recorder)
    tape = Tape(device, precision=network.precision)
    patches, targets = feed.batch(tape, network, device.external(optimiser.step, "step"))
    take_step(
        network,
        optimiser,
        tape,
        patches,
        targets,
        constrained=constrained,
        drop=train.dropout,
        seed=train.seed,
        side_stream=side_stream,
    )
    return recorder


def _prepare(optimiser: Nesterov, train: TrainConfig, step: int) -> None:
    """What changes a few times in a run."""
    if step == warmup_steps(train):
        optimiser.reset()
    optimiser.set_rate(learning_rate(train, step))
