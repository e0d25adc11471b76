"""One step of training, and the two ways to take it: computed at once, or captured once and replayed."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from ..augment.pool import BatchPool
from ..autograd.tape import Tape, Variable
from ..config import TrainConfig
from ..device import KernelDevice, kernel_device
from ..models.network import Network
from ..nn.optimiser import Nesterov
from ..nn.schedule import learning_rate, warmup_steps
from ..ops.mse import mse
from ..runtime.capture import CapturingBackend, Program
from .feeds import Feed, Report


def take_step(
    network: Network,
    optimiser: Nesterov,
    tape: Tape,
    patches: Variable,
    targets: Any,
    *,
    constrained: bool,
    drop: float,
    seed: int,
    side_stream: bool = False,
) -> None:
    """Update the network by one batch; nothing is updated where this loss or one before is not finite.

    Args:
        network: the layers.
        optimiser: of its parameters; tells the step, which keys the dropout, and the rate.
        tape: new.
        patches: (3, S, S, 16·B), as ``network.patches`` makes them.
        targets: (A, B) float32, on the tape's device.
        constrained: False takes the clipped output of the warm-up.
        drop: probability to drop an input of a dense layer.
        seed: of the dropout masks.
        side_stream: update dense weights on a side stream during the backward pass, see ``FusedUpdate``; no effect on
            the CPU.
    """
    device, optimiser = tape.device, optimiser.at(tape.device)
    updates = optimiser.updates(side_stream)
    variables = {name: Variable(array, True, updates[name]) for name, array in optimiser.weights.items()}
    seed_and_step = seed, optimiser.step
    answers = network.answers(tape, patches, variables, constrained=constrained, drop=drop, seed_and_step=seed_and_step)
    with tape.named("mse"):
        loss = mse(tape, answers, targets)
        optimiser.watch(loss.value)
    tape.backward(loss, device.asarray(np.ones((), np.float32)))
    with device.range("update"):
        optimiser.finish(loss.value, {name: variable.gradient for name, variable in variables.items()})


def capture_step(
    network: Network,
    optimiser: Nesterov,
    train: TrainConfig,
    feed: Feed,
    constrained: bool,
    side_stream: bool = False,
) -> CapturingBackend:
    """Capture the launches of one training step, from its batch to its update; nothing runs.

    The fused update of the dense weights is the default in every precision: by its registers and shared memory, an
    update on the side stream finds no room on a multiprocessor beside the fp32 convolutions. ``side_stream`` chooses
    it, see ``FusedUpdate``.
    """
    capturing = CapturingBackend(kernel_device(network.device).backend)
    device = KernelDevice(network.device.name, capturing)
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
    return capturing


class Steps(Protocol):
    """Takes the steps of a training, one after the other."""

    images: Any
    """All images, where they lie on the device; else None."""

    def take(self, step: int) -> None:
        """Take the next step, of this number."""

    def take_report(self) -> Report:
        """See :class:`.feeds.Feed`."""

    def close(self) -> None:
        """Stop preparing batches."""


class EagerSteps:
    """Computes each step as its Python runs.

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
    """Captures one step of the warm-up and one of the rest, each when it is first taken, and replays them.

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
            self._program = Program(capture_step(self._network, self._optimiser, self._train, self._feed, constrained))
        self._feed.provide(step)
        _prepare(self._optimiser, self._train, step)
        self._program.play()

    def take_report(self) -> Report:
        """See :class:`Steps`."""
        return self._feed.take_report()

    def close(self) -> None:
        """See :class:`Steps`."""
        self._feed.close()


def _prepare(optimiser: Nesterov, train: TrainConfig, step: int) -> None:
    """Set the learning rate of the step; after the warm-up begin with fresh velocities."""
    if step == warmup_steps(train):
        optimiser.reset()
    optimiser.set_rate(learning_rate(train, step))
