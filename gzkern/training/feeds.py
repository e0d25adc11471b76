"""Feeds: a captured training step finds its batch in a staging buffer on the device, by the number of the step.

The buffer holds two blocks of batches: one is filled while the steps of the other are under way. Two feeds differ in
what they send: :class:`CropFeed` augments on the CPU and sends crops, :class:`ImageFeed` keeps all images on
the device and sends how each is to be warped.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np

from ..augment.pool import BatchPool, slot_arrays
from ..augment.tables import tables
from ..augment.warp import require_tables
from ..autograd.tape import Tape, Variable
from ..config import Config
from ..device import kernel_device
from ..models.network import Network
from ..runtime.backend import Backend

_CROP_IMAGES = 128  # of a block, unless a batch has more: 15 MB
_CROP_BLOCKS = 8  # on the host, so that many threads find free slots
_IMAGE_SLOTS = 256  # of a block
_IMAGE_BLOCKS = 2  # on the host

Report = dict[str, float | None]
"""The supply of batches since the last report, by the names of metrics.jsonl; see ``BatchPool.take_report``."""


class Feed(Protocol):
    """Supplies the batches of captured steps."""

    images: Any
    """All images, where they lie on the device; else None."""

    def batch(self, tape: Tape, network: Network, step: Any) -> tuple[Variable, Any]:
        """Return patches and targets (A, B) of the step that is being captured; ``step`` is its number, (1,) int64."""

    def provide(self, step: int) -> None:
        """Have the batch of this step on the device; called in order, before the step is launched."""

    def take_report(self) -> Report:
        """Report the supply since this was last called."""

    def close(self) -> None:
        """Stop preparing batches."""


class StagedFeed(ABC):
    """A feed with a staging buffer on the device, filled a block ahead.

    Args:
        backend: of the device.
        slots: batches of a block.
        blocks: on the host.
        arrays: shape and dtype of a batch's part of each array, by name.
        stop: the number after the last step.
    """

    def __init__(
        self, backend: Backend, slots: int, blocks: int, arrays: Mapping[str, tuple[tuple[int, ...], Any]], stop: int
    ):
        self.staging_buffer = backend.staging_buffer(slots, blocks, arrays)
        self._slots, self._blocks, self._stop = slots, blocks, stop
        self._entered = self._sent = -1

    def provide(self, step: int) -> None:
        """See :class:`Feed`."""
        block = step // self._slots
        if block != self._entered:
            if block != self._sent:
                self._send(step)
            self.staging_buffer.enter(block)
            self._entered = block
        # Once the device has a step to work at.
        elif block == self._sent and (block + 1) * self._slots < self._stop:
            self._send((block + 1) * self._slots)

    def _send(self, first: int) -> None:
        """Fill the block of the step ``first`` from that step on, and send it."""
        block = first // self._slots
        self.fill(first, min((block + 1) * self._slots, self._stop))
        self.staging_buffer.send(block)
        self._sent = block

    def close(self) -> None:
        """See :class:`Feed`."""
        self.staging_buffer.close()

    @abstractmethod
    def fill(self, first: int, stop: int) -> None:
        """Write the batches of the steps [first, stop), of one block, into their slots on the host."""


class CropFeed(StagedFeed):
    """Crops that the CPU augments.

    Args:
        backend: of the device.
        network: that is trained.
        start_pool: the pool of all batches from the first step on, given the arrays that it is to fill.
        batch: images.
        stop: the number after the last step.
    """

    images = None

    def __init__(
        self,
        backend: Backend,
        network: Network,
        start_pool: Callable[[Mapping[str, np.ndarray]], BatchPool],
        batch: int,
        stop: int,
    ):
        arrays = slot_arrays(batch, network.target, len(network.tree))
        super().__init__(backend, max(1, _CROP_IMAGES // batch), _CROP_BLOCKS, arrays, stop)
        self._pool = start_pool(self.staging_buffer.host)
        self._held = 0  # batches that are on their way to the device

    def batch(self, tape: Tape, network: Network, step: Any) -> tuple[Variable, Any]:
        """See :class:`Feed`."""
        with tape.named("batch"):
            crops, targets = (
                kernel_device(tape.device).operations.gather_batch.gather(
                    tape.device.external(self.staging_buffer.arrays[name], f"staged {name}"), step
                )
                for name in ("crops", "targets")
            )
        return network.patches(tape, Variable(crops)), targets

    def fill(self, first: int, stop: int) -> None:
        """See :class:`StagedFeed`."""
        if self._held:
            self.staging_buffer.wait_sent(self._sent)
        for _ in range(self._held):
            self._pool.release()
        for _ in range(first, stop):
            self._pool.take()
        self._held = stop - first

    def take_report(self) -> Report:
        """See :class:`Feed`."""
        return self._pool.take_report()

    def close(self) -> None:
        """See :class:`Feed`."""
        self._pool.close()
        super().close()


class ImageFeed(StagedFeed):
    """Images that lie on the device, warped there.

    Args:
        backend: of the device.
        network: that is trained.
        images: (n, H, W, 3) uint8, copied to the device.
        labels: (n, A) float32.
        index_of: the images of the examples [start, stop).
        config: of the run.
        stop: the number after the last step.
        recentring: (n, 3) float64, see ``geometry.crop_matrices``.
    """

    def __init__(
        self,
        backend: Backend,
        network: Network,
        images: np.ndarray,
        labels: np.ndarray,
        index_of: Callable[[int, int], np.ndarray],
        config: Config,
        stop: int,
        recentring: np.ndarray | None = None,
    ):
        B = config.train.batch
        arrays = {
            "indices": ((B,), np.int64),
            "matrices": ((B, 2, 2, 3), np.float64),
            "shifts": ((B, 3), np.float32),
            "targets": ((len(network.tree), B), np.float32),
        }
        super().__init__(backend, min(_IMAGE_SLOTS, stop), _IMAGE_BLOCKS, arrays, stop)
        self.images = backend.asarray(images)
        self._labels, self._index_of, self._config, self._size = labels, index_of, config, images.shape[1:3]
        self._count, self._recentring = len(images), recentring
        self._waited = 0.0

    def batch(self, tape: Tape, network: Network, step: Any) -> tuple[Variable, Any]:
        """See :class:`Feed`."""
        device = kernel_device(tape.device)
        staged = {name: device.external(array, f"staged {name}") for name, array in self.staging_buffer.arrays.items()}
        with tape.named("batch"):
            targets = device.operations.gather_batch.gather(staged["targets"], step)
        with tape.named("warp"):
            images = device.external(self.images, "images")
            tables = staged["indices"], staged["matrices"], staged["shifts"]
            patches = device.operations.warp.patches(images, *tables, step, network.target, network.patch)
        return Variable(patches), targets

    def fill(self, first: int, stop: int) -> None:
        """See :class:`StagedFeed`."""
        self.staging_buffer.wait_sent(first // self._slots - self._blocks)
        begin, B = time.perf_counter(), self._config.train.batch
        examples = np.arange(first * B, stop * B)
        indices = self._index_of(first * B, stop * B)
        config, size = self._config, self._size
        matrices, shifts = tables(
            examples, indices, config.train.seed, config.augment, config.data, size, self._recentring
        )
        require_tables(indices, matrices, self._count)
        targets = self._labels[indices].reshape(-1, B, self._labels.shape[1]).swapaxes(1, 2)
        slot = first % (self._blocks * self._slots)
        for name, values in {"indices": indices, "matrices": matrices, "shifts": shifts, "targets": targets}.items():
            slots = self.staging_buffer.host[name][slot : slot + stop - first]
            slots[...] = values.reshape(slots.shape)
        self._waited += time.perf_counter() - begin

    def take_report(self) -> Report:
        """See :class:`Feed`; nothing is prepared by threads."""
        waited, self._waited = self._waited, 0.0
        return {"queue_fill": None, "wait_s": waited, "pool_images_per_s": None, "pool_wait_s": None}
