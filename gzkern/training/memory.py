"""Forecast the memory that a training step takes on its device, and the largest batch that fits."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from ..config import Config
from ..device import KernelDevice
from ..errors import InputError
from ..models.network import Network, empty_network
from ..models.predictor import BATCH, Predictor
from ..nn.optimiser import Nesterov
from ..runtime.backend import Limits
from ..runtime.capture import Place, ShapeOnlyBackend, arena_bytes, lay_out
from .feeds import ImageFeed
from .step import capture_step

_SIDE = 424  # pixels of a published image
_FINEST = 8  # images: batches are sought in multiples of it
_FAR = 128  # enough to see how the need grows
_GUESSES = 12


@dataclass(frozen=True)
class StepMemory:
    """Bytes of one training step, without its images.

    Attributes:
        batch: images.
        weights: all parameters.
        velocities: of all parameters.
        staging_buffers: of the next batches, on the device.
        validation: of a pass over held-out images, besides the step.
        arena: of the arrays that the step makes; arrays that are never in use at once share their place.
        places: of the arena, in the order of first use.
        launches: kernels of the step.
    """

    batch: int
    weights: int
    velocities: int
    staging_buffers: int
    validation: int
    arena: int
    places: tuple[Place, ...]
    launches: int

    @property
    def total(self) -> int:
        """Bytes of all."""
        return self.weights + self.velocities + self.staging_buffers + self.validation + self.arena

    @property
    def made(self) -> int:
        """Bytes of the arena if no arrays shared their place."""
        return sum(place.block.nbytes for place in self.places)


def step_memory(config: Config, limits: Limits) -> StepMemory:
    """Forecast the memory of a configuration's training step, on a device of these limits; nothing is allocated.

    Raises:
        InputError: an array would be too large for the kernels.
    """
    device = KernelDevice("cuda", ShapeOnlyBackend(limits))
    network = empty_network(config, device)
    for parameter in network.specifications():
        network.parameters[parameter.name] = np.broadcast_to(np.float32(0), parameter.shape)  # takes no memory
    optimiser = Nesterov(device, network.parameters, config.train.momentum)
    images = np.broadcast_to(np.uint8(0), (1, _SIDE, _SIDE, 3))
    labels = np.empty((1, len(network.tree)), np.float32)
    stop = config.train.examples // config.train.batch
    feed = ImageFeed(device.backend, network, images, labels, lambda *_: np.empty(0), config, stop)
    launches = capture_step(network, optimiser, config.train, feed, constrained=True).finish()
    places = lay_out(launches)
    weights = sum(array.nbytes for array in network.parameters.values())
    staging_buffers = sum(array.nbytes for array in feed.staging_buffer.arrays.values())
    validation = _pass_memory(network)
    sizes = weights, weights, staging_buffers, validation, arena_bytes(places)
    return StepMemory(config.train.batch, *sizes, tuple(places), len(launches))


def _pass_memory(network: Network) -> int:
    """Bytes of arena and inputs of one pass over rows of the images."""
    images = np.broadcast_to(np.uint8(0), (1, _SIDE, _SIDE, 3))
    shapes = {"rows": ((BATCH,), np.int64), "matrices": ((BATCH, 2, 2, 3), np.float64)}
    capturing, inputs, answers = Predictor(network).capture(shapes, images)
    arena = arena_bytes(lay_out(capturing.finish(), [answers]))
    return arena + sum(array.nbytes for array in inputs.values())


def with_batch(config: Config, batch: int) -> Config:
    """Return the configuration with another batch; examples and chunk grow where they are smaller."""
    train = config.train
    examples, chunk = max(train.examples, batch), max(train.chunk, batch)
    return replace(config, train=replace(train, batch=batch, examples=examples, chunk=chunk))


def largest_batch(config: Config, limits: Limits, available: int) -> int:
    """Find the largest batch whose training step fits into ``available`` bytes: a multiple of 8; 0 if none fits."""

    def needed(batch: int) -> int:
        return step_memory(with_batch(config, batch), limits).total

    return largest(needed, available)


def largest(needed: Callable[[int], int], available: int) -> int:
    """Find the largest multiple of 8 whose need is available, for a need that grows about evenly; 0 if none is.

    Each guess is where the last need would come to what is available at the growth of the first two; the best of a
    few guesses is exact but for the last few images.
    """

    def bytes_of(batch: int) -> float:
        try:
            return needed(batch)
        except InputError:  # an array would have too many elements
            return math.inf

    first, second = bytes_of(_FINEST), bytes_of(_FAR)
    each = max((second - first) / (_FAR - _FINEST), 1.0) if second < math.inf else 1.0
    best, barred, batch, need = 0, math.inf, _FINEST, first
    for _ in range(_GUESSES):
        if need <= available:
            best = max(best, batch)
        elif need == math.inf:
            barred = min(barred, batch)
        guess = batch + (available - need) / each
        if need == math.inf or guess >= barred:
            guess = math.sqrt(best * barred)
        before, batch = batch, math.floor(guess / _FINEST) * _FINEST
        if batch in (0, before, best):
            break
        need = bytes_of(batch)
    return best
