"""Augmented batches, prepared ahead of training by threads, the same whatever their number."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from types import TracebackType

import numpy as np

from ..config import AugmentConfig, DataConfig
from ..errors import GzkernError, InputError
from .tables import Tables, identity_tables, tables
from .warp import warp_batch


@dataclass(frozen=True)
class Batch:
    """B consecutive training examples; the arrays are the reader's to keep.

    Attributes:
        examples: (B,) int64, example numbers.
        indices: (B,) int64, the image of each.
        crops: (B, 2, T, T, 3) float32 in [0, 1].
        labels: (B, A) float32.
    """

    examples: np.ndarray
    indices: np.ndarray
    crops: np.ndarray
    labels: np.ndarray


class BatchPool:
    """The examples ``first`` to ``stop`` − 1 in order, in batches; the last one may be smaller.

    A pool is iterated once. Its threads start then and are gone when the loop ends, by itself, by ``break``
    or by an exception; ``with`` and ``close`` end them wherever an iterator is kept. A batch that cannot be
    prepared raises ``GzkernError`` in the reader, when its turn comes. At most max(``prefetch``, ``workers``)
    batches exist beside those that the reader holds.

    Args:
        images: (n, H, W, 3) uint8, in memory or memory-mapped.
        labels: (n, A) float32.
        index_of: the images of the examples [start, stop), (stop − start,) int64; called in order, by the
            reader's thread.
        seed: of the augmentation, 0 to 2**64 − 1.
        augment: its ranges.
        data: the crop.
        batch: examples in a batch.
        first: the first example's number.
        stop: the number after the last.
        workers: threads; 0 prepares each batch in the reader's thread when it is asked for.
        prefetch: batches prepared ahead.
        recentring: (n, 3) float64, see ``geometry.crop_matrices``.

    Raises:
        InputError: a count is too small.
    """

    def __init__(
        self,
        images: np.ndarray,
        labels: np.ndarray,
        index_of: Callable[[int, int], np.ndarray],
        *,
        seed: int,
        augment: AugmentConfig,
        data: DataConfig,
        batch: int,
        first: int,
        stop: int,
        workers: int,
        prefetch: int = 8,
        recentring: np.ndarray | None = None,
    ) -> None:
        for name, value, least in (("batch", batch, 1), ("workers", workers, 0), ("prefetch", prefetch, 1)):
            if value < least:
                raise InputError(f"{name}: expected at least {least}, got {value}")
        self._images, self._labels, self._recentring = images, labels, recentring
        self._index_of, self._seed, self._augment, self._data = index_of, seed, augment, data
        self._batch, self._first, self._stop = batch, first, stop
        self._depth = max(prefetch, workers)
        self._executor = ThreadPoolExecutor(workers, "gzkern-augment") if workers else None
        self._pending: deque[Future[Batch]] = deque()
        self._waited = 0.0

    def __iter__(self) -> Iterator[Batch]:
        with closing(self._ahead(self._executor) if self._executor else self._on_demand()) as batches:
            while True:
                asked = time.perf_counter()
                batch = next(batches, None)
                self._waited += time.perf_counter() - asked
                if batch is None:
                    return
                yield batch

    def __enter__(self) -> BatchPool:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End the threads, and so the iteration, after the batches in work (milliseconds)."""
        self._pending.clear()
        if self._executor:
            self._executor.shutdown(cancel_futures=True)

    @property
    def queue_fill(self) -> float:
        """The part of the queue that is ready, 0 to 1; near 0, training waits for augmentation."""
        return sum(future.done() for future in self._pending) / self._depth

    def take_wait_s(self) -> float:
        """Return for how many seconds the reader has waited for batches since this was last called."""
        waited, self._waited = self._waited, 0.0
        return waited

    def _on_demand(self) -> Generator[Batch]:
        return (self._prepare(*task) for task in self._tasks())

    def _ahead(self, executor: ThreadPoolExecutor) -> Generator[Batch]:
        tasks = (executor.submit(self._prepare, *task) for task in self._tasks())
        try:
            self._pending.extend(islice(tasks, self._depth))
            while self._pending:
                batch = self._pending[0].result()
                self._pending.popleft()
                self._pending.extend(islice(tasks, 1))
                yield batch
        finally:
            self.close()

    def _tasks(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield the examples of each batch, and their images."""
        for start in range(self._first, self._stop, self._batch):
            stop = min(start + self._batch, self._stop)
            yield np.arange(start, stop), self._index_of(start, stop)

    def _prepare(self, examples: np.ndarray, indices: np.ndarray) -> Batch:
        try:
            size = self._images.shape[1:3]
            drawn = tables(examples, indices, self._seed, self._augment, self._data, size, self._recentring)
            crops = _crops(self._images, indices, drawn, self._data)
            return Batch(examples, indices, crops, self._labels[indices])
        except Exception as error:
            raise GzkernError(f"augmentation failed in examples {examples[0]} to {examples[-1]}: {error}") from error


def identity_crops(
    images: np.ndarray, indices: np.ndarray, data: DataConfig, recentring: np.ndarray | None = None
) -> np.ndarray:
    """Return the crops of ``images[indices]`` as they are, for validation and prediction.

    Args:
        images: (n, H, W, 3) uint8, in memory or memory-mapped.
        indices: (B,) int64.
        data: the crop.
        recentring: (n, 3) float64, see ``geometry.crop_matrices``.

    Returns:
        (B, 2, T, T, 3) float32 in [0, 1].

    Raises:
        InputError: from ``warp.warp_batch``.
    """
    return _crops(images, indices, identity_tables(indices, data, images.shape[1:3], recentring), data)


def _crops(images: np.ndarray, indices: np.ndarray, placed: Tables, data: DataConfig) -> np.ndarray:
    out = np.empty((len(indices), 2, data.target, data.target, 3), np.float32)
    warp_batch(images, indices, *placed, out)
    return out
