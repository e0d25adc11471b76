"""Augmented batches, prepared by threads in a staging buffer before training needs them, the same with any threads."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import numpy as np

from ..config import AugmentConfig, DataConfig
from ..core import arguments
from ..core.ordered_workers import OrderedWorkers
from ..data.encoded import EncodedImages
from ..errors import GzkernError, InputError
from .tables import Tables, identity_tables, tables
from .warp import load, warp_batch

_TASK_IMAGES = 128  # that a thread prepares at once: what a task costs beside the warp is 2 % then, of 16 it is 10 %

Images = np.ndarray | EncodedImages
"""(n, H, W, 3) uint8: in memory, memory-mapped, or in files that are decoded as they are used."""


@dataclass(frozen=True)
class Batch:
    """B consecutive training examples; ``crops`` and ``targets`` lie in the staging buffer until they are released.

    Attributes:
        examples: (B,) int64, example numbers.
        indices: (B,) int64, the image of each.
        crops: (B, 2, T, T, 3) float32 in [0, 1].
        targets: (A, B) float32.
    """

    examples: np.ndarray
    indices: np.ndarray
    crops: np.ndarray
    targets: np.ndarray


def slot_arrays(batch: int, target: int, answers: int) -> dict[str, tuple[tuple[int, ...], Any]]:
    """Return shape and dtype of the arrays in a slot of a staging buffer, by name."""
    return {"crops": ((batch, 2, target, target, 3), np.float32), "targets": ((answers, batch), np.float32)}


def new_staging_buffer(slots: int, batch: int, target: int, answers: int) -> dict[str, np.ndarray]:
    """Allocate a staging buffer on the host: crops (slots, B, 2, T, T, 3) and targets (slots, A, B), float32."""
    return {
        name: np.empty((slots, *shape), dtype) for name, (shape, dtype) in slot_arrays(batch, target, answers).items()
    }


class BatchPool:
    """The examples ``first`` to ``stop`` − 1 in batches, in order; batch k of the stream lies in slot k mod slots.

    A pool is read once: by :meth:`take` and :meth:`release`, or as an iterable that releases a batch when it is asked
    for the next. Its threads start with the first batch, and are gone after the last, after an exception, with
    :meth:`close`, and when ``with`` or a loop ends. A batch that cannot be prepared raises ``GzkernError`` in the
    reader, in its turn.

    Args:
        images: (n, H, W, 3) uint8.
        labels: (n, A) float32.
        index_of: the images of the examples [start, stop), (stop − start,) int64; pure, called by any thread.
        staging_buffer: crops (slots, B, 2, T, T, 3) and targets (slots, A, B), float32, C-contiguous; the
            pool's until it ends.
        seed: of the augmentation, 0 to 2**64 − 1.
        augment: its ranges.
        data: the crop.
        first: the first example's number, that of a batch's first.
        stop: the number after the last, that of a batch's first.
        workers: threads; 0 prepares each batch in the reader's thread when it is asked for.
        recentring: (n, 3) float64, see ``geometry.crop_matrices``.

    Raises:
        InputError: an argument is not as said here.
    """

    def __init__(
        self,
        images: Images,
        labels: np.ndarray,
        index_of: Callable[[int, int], np.ndarray],
        staging_buffer: Mapping[str, np.ndarray],
        *,
        seed: int,
        augment: AugmentConfig,
        data: DataConfig,
        first: int,
        stop: int,
        workers: int,
        recentring: np.ndarray | None = None,
    ) -> None:
        slots, B = staging_buffer["crops"].shape[:2]
        for name, (shape, _) in slot_arrays(B, data.target, labels.shape[1]).items():
            arguments.shape("pool", name, staging_buffer[name], (slots, *shape))
            if not staging_buffer[name].flags.c_contiguous:
                raise InputError(
                    f"pool: {name} has strides {staging_buffer[name].strides}, expected a C-contiguous array"
                )
        if workers < 0:
            raise InputError(f"workers: expected at least 0, got {workers}")
        if first % B or stop % B:
            raise InputError(f"examples {first} to {stop}: expected whole batches of {B}")
        self._work = _Work(images, labels, index_of, staging_buffer, seed, augment, data, recentring)
        self._workers, self._slots, self._B, self._staging_buffer = workers, slots, B, staging_buffer
        # A task less than there is room for, so that the reader may hold one while every thread has another.
        size = min(-(-_TASK_IMAGES // B), slots // (workers + 1)) if workers else 1
        self._tasks = _Tasks(first // B, max(first, stop) // B, max(1, size))
        self._taken = self._released = self._tasks.first
        self._threads: OrderedWorkers | None = None
        self._indices = np.empty(0, np.int64)  # of the task that the last batch was in
        self._closed = False
        self._waited, self._fill, self._takes, self._made = 0.0, 0.0, 0, 0

    def take(self) -> Batch:
        """Wait for the next batch and return it.

        Raises:
            GzkernError: there is none, it could not be prepared, or the reader holds so many that it has no slot.
        """
        if self._taken == self._tasks.stop or self._closed:
            raise GzkernError(f"the pool has no batch after example {self._taken * self._B - 1}")
        if self._taken - self._released == self._slots:
            raise GzkernError(f"the reader holds all {self._slots} slots; it must release one before it takes another")
        k, B, begin = self._taken, self._B, time.perf_counter()
        task, place = divmod(k - self._tasks.first, self._tasks.size)
        room = min(self._slots - (k - self._released), self._tasks.stop - k)
        self._fill += min(1.0, self._ready(place) / max(1, room))
        if place == 0:
            try:
                self._indices = self._result(task)
            except BaseException:
                self.close()
                raise
        self._waited += time.perf_counter() - begin
        self._takes += 1
        self._taken += 1
        crops, targets = (self._staging_buffer[name][k % self._slots] for name in ("crops", "targets"))
        return Batch(np.arange(k * B, (k + 1) * B), self._indices[place * B : (place + 1) * B], crops, targets)

    def release(self) -> None:
        """Give the slot of the oldest batch taken back to the pool."""
        if self._released == self._taken:
            raise GzkernError("no batch is held that could be released")
        self._released += 1
        self._allow()

    def __iter__(self) -> Iterator[Batch]:
        try:
            while self._taken < self._tasks.stop and not self._closed:
                yield self.take()
                if not self._closed:
                    self.release()
        finally:
            self.close()

    def __enter__(self) -> BatchPool:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End the threads, and so the stream, after the tasks in work: milliseconds, with files to decode tenths."""
        self._closed = True
        if self._threads:
            self._threads.close()

    def take_report(self) -> dict[str, float | None]:
        """Report the supply of batches since this was last called, by the names of metrics.jsonl.

        ``queue_fill``: the part of the staging buffer that was ready when a batch was asked for, mean; ``wait_s``: for
        how long the reader waited; ``pool_images_per_s``: images over the time in which a thread was at work, None
        where none were made; ``pool_wait_s``: for how long a thread waited for the reader, mean.
        """
        made, busy, idle = self._threads.take_times() if self._threads else (self._takes, self._waited, 0.0)
        before, self._made = self._made, self._made + made
        images = (self._tasks.batches(self._made) - self._tasks.batches(before)) * self._B
        report = {
            "queue_fill": self._fill / self._takes if self._takes else 0.0,
            "wait_s": self._waited,
            "pool_images_per_s": images / busy if images else None,
            "pool_wait_s": idle / max(self._workers, 1),
        }
        self._waited, self._fill, self._takes = 0.0, 0.0, 0
        return report

    def _ready(self, place: int) -> int:
        """Count the batches that are ready for the reader, who comes to this place of a task."""
        whole = self._threads.ready if self._threads else 0
        return whole * self._tasks.size + (self._tasks.size - place if place else 0)

    def _result(self, task: int) -> np.ndarray:
        """Wait until a task's batches are in their slots; return the images of its examples."""
        if task == 0:
            load()  # the time of compiling does not count as that of the pool
        if not self._workers:
            return self._work(self._tasks[task])
        if self._threads is None:
            work, tasks = self._work, self._tasks
            self._threads = OrderedWorkers(lambda task: work(tasks[task]), len(tasks), self._workers, "gzkern-augment")
            self._allow()
        return self._threads.take(task)

    def _allow(self) -> None:
        """Let those tasks begin whose slots are all free."""
        if self._threads:
            self._threads.allow(self._tasks.before(self._released + self._slots))


@dataclass(frozen=True)
class _Tasks:
    """The batches ``first`` to ``stop`` − 1 in tasks of ``size``; the last one may be smaller."""

    first: int
    stop: int
    size: int

    def __len__(self) -> int:
        return -(-(self.stop - self.first) // self.size)

    def __getitem__(self, task: int) -> range:
        start = self.first + task * self.size
        return range(start, min(start + self.size, self.stop))

    def batches(self, tasks: int) -> int:
        """The number of batches of the first tasks."""
        return min(tasks * self.size, self.stop - self.first)

    def before(self, batch: int) -> int:
        """The number of tasks whose batches all come before this one."""
        return len(self) if batch >= self.stop else (batch - self.first) // self.size


@dataclass(frozen=True)
class _Work:
    """Prepares batches in a thread; arguments as those of the pool."""

    images: Images
    labels: np.ndarray
    index_of: Callable[[int, int], np.ndarray]
    staging_buffer: Mapping[str, np.ndarray]
    seed: int
    augment: AugmentConfig
    data: DataConfig
    recentring: np.ndarray | None

    def __call__(self, batches: range) -> np.ndarray:
        """Fill the slots of these batches; returns the images of their examples."""
        slots, B = self.staging_buffer["crops"].shape[:2]
        start, stop = batches.start * B, batches.stop * B
        try:
            indices = self.index_of(start, stop)
            size = self.images.shape[1:3]
            drawn = tables(np.arange(start, stop), indices, self.seed, self.augment, self.data, size, self.recentring)
            cut = -(-batches.start // slots) * slots  # from where on the slots begin again
            for run in (range(batches.start, min(cut, batches.stop)), range(max(batches.start, cut), batches.stop)):
                if run:
                    part = slice((run.start - batches.start) * B, (run.stop - batches.start) * B)
                    place = slice(run.start % slots, run.start % slots + len(run))
                    crops, targets = self.staging_buffer["crops"][place], self.staging_buffer["targets"][place]
                    matrices, shifts = (table[part] for table in drawn)
                    _warp(self.images, indices[part], (matrices, shifts), crops.reshape(-1, *crops.shape[2:]))
                    targets[...] = self.labels[indices[part]].reshape(len(run), B, -1).swapaxes(1, 2)
        except Exception as error:
            raise GzkernError(f"augmentation failed in examples {start} to {stop - 1}: {error}") from error
        return indices


def identity_crops(
    images: Images, indices: np.ndarray, data: DataConfig, recentring: np.ndarray | None = None
) -> np.ndarray:
    """Return the crops of ``images[indices]`` as they are, for validation and prediction.

    Args:
        images: (n, H, W, 3) uint8.
        indices: (B,) int64.
        data: the crop.
        recentring: (n, 3) float64, see ``geometry.crop_matrices``.

    Returns:
        (B, 2, T, T, 3) float32 in [0, 1].

    Raises:
        InputError: from ``warp.warp_batch``.
    """
    out = np.empty((len(indices), 2, data.target, data.target, 3), np.float32)
    _warp(images, indices, identity_tables(indices, data, images.shape[1:3], recentring), out)
    return out


def _warp(images: Images, indices: np.ndarray, placed: Tables, out: np.ndarray) -> None:
    if isinstance(images, np.ndarray):
        warp_batch(images, indices, *placed, out)
        return
    first = np.zeros(1, np.int64)
    for b in range(len(indices)):  # one decoded image at a time
        one = slice(b, b + 1)
        warp_batch(images[indices[one]], first, placed[0][one], placed[1][one], out[one])
