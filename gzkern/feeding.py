"""How a recorded training step gets its batch: from a ring on the device, by the number of the step.

A ring has two halves; a half has the batches of a block of steps, and is filled while the steps of the other are under
way. What stands in it is the feed's choice: :class:`CropFeed` augments on the CPU and sends crops, :class:`ImageFeed`
keeps all images on the device and sends how each is to be warped.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np

from .augment.pool import BatchPool
from .augment.tables import tables
from .augment.warp import require_tables
from .autograd.tape import Tape, Variable
from .config import Config
from .models.network import Network

_CROP_SLOTS = 8  # of a half: 15 MB at the published batch
_IMAGE_SLOTS = 256


class Feed(Protocol):
    """Where the batches of recorded steps come from."""

    images: Any
    """All images, where they lie on the device; else None."""

    @property
    def queue_fill(self) -> float:
        """The part of what is prepared ahead that is ready, 0 to 1; near 0, training waits for augmentation."""

    def batch(self, tape: Tape, network: Network, step: Any) -> tuple[Variable, Any]:
        """Patches and targets (A, B) of a step that is being recorded; ``step`` (1,) int64 tells it when it runs."""

    def provide(self, step: int) -> None:
        """Have the batch of this step on the device; asked for in order, before the step is launched."""

    def take_wait_s(self) -> float:
        """For how many seconds training has waited for batches since this was last called."""

    def close(self) -> None:
        """End what works ahead."""


class RingFeed(ABC):
    """What both feeds share: a ring on the device, filled a block ahead.

    Args:
        backend: of the device.
        slots: batches of a block.
        arrays: shape and dtype of a batch's part of each array, by name.
        stop: the number after the last step.
    """

    def __init__(self, backend: Any, slots: int, arrays: Mapping[str, tuple[tuple[int, ...], Any]], stop: int):
        self.ring = backend.ring(slots, arrays)
        self._slots, self._stop = slots, stop
        self._entered = self._filled = -1
        self._waited = 0.0

    def provide(self, step: int) -> None:
        """See :class:`Feed`."""
        block = step // self._slots
        if block != self._entered:
            if block != self._filled:
                self._send(step)
            self.ring.enter(block % 2)
            self._entered = block
        # Once the device has a step to work at.
        elif block == self._filled and (block + 1) * self._slots < self._stop:
            self._send((block + 1) * self._slots)

    def take_wait_s(self) -> float:
        """See :class:`Feed`."""
        waited, self._waited = self._waited, 0.0
        return waited

    def _send(self, first: int) -> None:
        """Fill the half of this step, from it on, and send it."""
        block, slot = divmod(first, self._slots)
        stop = min((block + 1) * self._slots, self._stop)
        host = self.ring.host(block % 2)  # waits for a device that is behind
        begin = time.perf_counter()
        self.fill(first, stop, {name: array[slot:] for name, array in host.items()})
        self._waited += time.perf_counter() - begin
        self.ring.send(block % 2)
        self._filled = block

    def close(self) -> None:
        """See :class:`Feed`."""
        self.ring.close()

    @abstractmethod
    def fill(self, first: int, stop: int, slots: dict[str, np.ndarray]) -> None:
        """Write the batches of the steps [first, stop) into the first of these slots."""


class CropFeed(RingFeed):
    """Crops that the CPU augments.

    Args:
        backend: of the device.
        network: that is trained.
        pool: of all batches from the first step on.
        batch: images.
        stop: the number after the last step.
    """

    def __init__(self, backend: Any, network: Network, pool: BatchPool, batch: int, stop: int):
        crop = (batch, 2, network.target, network.target, 3)
        arrays = {"crops": (crop, np.float32), "targets": ((len(network.tree), batch), np.float32)}
        super().__init__(backend, _CROP_SLOTS, arrays, stop)
        self.images = None
        self._pool, self._batches = pool, iter(pool)

    @property
    def queue_fill(self) -> float:
        """See :class:`Feed`."""
        return self._pool.queue_fill

    def batch(self, tape: Tape, network: Network, step: Any) -> tuple[Variable, Any]:
        """See :class:`Feed`."""
        with tape.named("batch"):
            crops, targets = (
                tape.device.take.take(tape.device.outside(self.ring.arrays[name], f"ring of {name}"), step)
                for name in ("crops", "targets")
            )
        return network.patches(tape, Variable(crops)), targets

    def fill(self, first: int, stop: int, slots: dict[str, np.ndarray]) -> None:
        """See :class:`RingFeed`."""
        for slot in range(stop - first):
            batch = next(self._batches)
            slots["crops"][slot], slots["targets"][slot] = batch.crops, batch.labels.T

    def take_wait_s(self) -> float:
        """See :class:`Feed`."""
        return self._pool.take_wait_s()

    def close(self) -> None:
        """See :class:`Feed`."""
        self._pool.close()
        super().close()


class ImageFeed(RingFeed):
    """Images that lie on the device, warped there.

    Args:
        backend: of the device.
        network: that is trained.
        images: (n, H, W, 3) uint8, copied to the device.
        labels: (n, A) float32.
        index_of: the images of the examples [start, stop).
        config: of the run.
        stop: the number after the last step.
    """

    queue_fill = 1.0

    def __init__(
        self,
        backend: Any,
        network: Network,
        images: np.ndarray,
        labels: np.ndarray,
        index_of: Callable[[int, int], np.ndarray],
        config: Config,
        stop: int,
    ):
        B = config.train.batch
        arrays = {
            "indices": ((B,), np.int64),
            "matrices": ((B, 2, 2, 3), np.float64),
            "shifts": ((B, 3), np.float32),
            "targets": ((len(network.tree), B), np.float32),
        }
        super().__init__(backend, min(_IMAGE_SLOTS, stop), arrays, stop)
        self.images = backend.asarray(images)
        self._labels, self._index_of, self._config, self._size = labels, index_of, config, images.shape[1:3]
        self._count = len(images)

    def batch(self, tape: Tape, network: Network, step: Any) -> tuple[Variable, Any]:
        """See :class:`Feed`."""
        device = tape.device
        ring = {name: device.outside(array, f"ring of {name}") for name, array in self.ring.arrays.items()}
        with tape.named("batch"):
            targets = device.take.take(ring["targets"], step)
        with tape.named("warp"):
            images = device.outside(self.images, "images")
            tables = ring["indices"], ring["matrices"], ring["shifts"]
            patches = device.warp.patches(images, *tables, step, network.target, network.patch)
        return Variable(patches), targets

    def fill(self, first: int, stop: int, slots: dict[str, np.ndarray]) -> None:
        """See :class:`RingFeed`."""
        B = self._config.train.batch
        examples = np.arange(first * B, stop * B)
        indices = self._index_of(first * B, stop * B)
        matrices, shifts = tables(
            examples, indices, self._config.train.seed, self._config.augment, self._config.data, self._size
        )
        require_tables(indices, matrices, self._count)
        targets = self._labels[indices].reshape(-1, B, self._labels.shape[1]).swapaxes(1, 2)
        for name, values in {"indices": indices, "matrices": matrices, "shifts": shifts, "targets": targets}.items():
            slots[name][: stop - first] = values.reshape(stop - first, *slots[name].shape[1:])
