"""The search of many images for their objects, by worker processes."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from typing import Any

import numpy as np
from tqdm import tqdm

from ..core.ordered_workers import prefetch
from ..core.processes import WorkerDied, Workers, cores
from ..device import MOST_WORKERS
from ..errors import GzkernError, InputError
from .objects import COLUMNS, find_in_plane, require_sep, threshold_of

_AT_A_TIME = 16  # images a worker is sent


def find_objects(
    images: Any, threshold_set: str, *, workers: int | None = None, progress: bool = True, ids: Sequence[str] = ()
) -> np.ndarray:
    """Measure the most salient object of each image, as ``objects.find_object`` does, in parallel.

    The workers are processes, since sep holds the interpreter lock; each is sent a few images at a time, and all end
    with this call, however it ends. What is found does not depend on their number.

    Args:
        images: (n, H, W, 3) uint8: an array, a memory map or an ``EncodedImages``.
        threshold_set: as for ``objects.find_object``.
        workers: processes; one a core if left out.
        progress: show a bar on stderr.
        ids: of the images, by which errors name them; their numbers if left out.

    Returns:
        (n, 6) float64, see ``COLUMNS``.

    Raises:
        InputError: sep is not installed, there is no such set, or ``workers`` is below 1.
        GzkernError: an image could not be read or searched, or a worker died.
    """
    require_sep()
    workers = cores() if workers is None else workers
    if not 1 <= workers <= MOST_WORKERS:
        raise InputError(f"--workers {workers}: expected 1 to {MOST_WORKERS} processes")
    count = len(images)
    parts = [range(start, min(start + _AT_A_TIME, count)) for start in range(0, count, _AT_A_TIME)]
    workers = min(workers, len(parts))
    threshold = threshold_of(threshold_set)
    objects = np.empty((count, len(COLUMNS)))

    def find(part: range) -> int:
        green = np.ascontiguousarray(images[np.arange(part.start, part.stop)][..., 1])
        try:
            found = processes.ask(green, threshold)
        except WorkerDied:
            names = [ids[row] if ids else str(row) for row in (part[0], part[-1])]
            raise GzkernError(
                f"a process that looked for objects in images {' to '.join(names)} has died; "
                "take fewer --workers if memory is short"
            ) from None
        if isinstance(found, _Failure):
            row = part[found.image]
            raise GzkernError(f"image {ids[row] if ids else row}: looking for objects failed ({found.reason})")
        objects[part.start : part.stop] = found
        return len(part)

    bar = tqdm(desc=f"finding objects ({threshold_set})", total=count, unit="image", disable=not progress)
    searched = closing(prefetch(find, parts, workers=workers, most=2 * workers))  # its threads end after the processes
    with bar, searched as counts, Workers(_find_all, workers) as processes:
        for count_of_part in counts:
            bar.update(count_of_part)
    return objects


class _Failure:
    """The number of the image, among those that a worker was sent, whose search failed, and the reason."""

    def __init__(self, image: int, reason: str):
        self.image, self.reason = image, reason


def _find_all(planes: np.ndarray, threshold: float) -> np.ndarray | _Failure:
    """Search planes (n, H, W) uint8 in a worker: (n, 6) float64, or the first failure."""
    found = np.empty((len(planes), len(COLUMNS)))
    for number, green in enumerate(planes):
        try:
            found[number] = find_in_plane(green, threshold)
        except Exception as error:  # whatever it is, the process that asks must be told
            return _Failure(number, str(error) or type(error).__name__)
    return found
