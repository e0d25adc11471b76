"""A synthetic demo set: drawn galaxies with the votes of a simulated crowd, in the challenge's layout.

Nothing is downloaded and nothing of the survey is copied: every picture and every label follows from a seed.
The way of one example: `morphology` draws a shape and `camera` the conditions it is seen in; `light` (with
`disk`, `profiles` and `populations`) gives its light, `camera` the picture, `votes` the answers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image

from ...core.files import new_directory
from ...core.ordered_workers import prefetch
from ...decision_trees.tree import DecisionTree, load_tree
from ...errors import InputError
from ..tables import write_rows
from .camera import draw_exposure, photograph
from .morphology import draw_galaxy
from .votes import answer_probabilities, draw_fractions

__all__ = ["draw_demo_set", "draw_example"]

_IMAGES, _LABELS = "images_training_rev1", "training_solutions_rev1.csv"
_FIRST_ID = 100001
_JPEG_QUALITY = 75  # the challenge's own quantisation tables

_galaxy_zoo_tree: Callable[[], DecisionTree] = cache(load_tree)


def draw_example(index: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw one galaxy: its picture (424, 424, 3) uint8 and its vote fractions (37,) float64.

    Both depend on (seed, index) alone, so a larger set begins with the smaller one.
    """
    rng = np.random.default_rng([seed, index])
    galaxy, exposure = draw_galaxy(rng), draw_exposure(rng)
    fractions = draw_fractions(answer_probabilities(galaxy, exposure), _galaxy_zoo_tree(), rng)
    return photograph(galaxy, exposure, rng), fractions


def draw_demo_set(
    out: str | Path,
    count: int,
    seed: int,
    *,
    workers: int = 1,
    progress: Callable[[int], object] = lambda drawn: None,
) -> None:
    """Draw a data set in the challenge's layout: JPEGs under ``images_training_rev1/``, labels in a CSV.

    The set appears whole or not at all.

    Args:
        out: directory to make; it may exist if it is empty.
        count: number of images.
        seed: the same seed gives the same files, whatever the number of workers.
        workers: threads that draw.
        progress: called with 1 after each image, as the ``update`` of a progress bar.

    Raises:
        InputError: ``out`` holds something or cannot be made, or a number is out of range.
        GzkernError: writing failed midway.
    """
    for name, value, least in (("count", count, 1), ("seed", seed, 0), ("workers", workers, 1)):
        if value < least:
            raise InputError(f"demo set: expected a {name} of at least {least}, got {value}")
    out = Path(out)
    if out.is_dir() and any(out.iterdir()):
        raise InputError(f"demo set: {out} is not empty; name a new or an empty directory")
    with new_directory(out) as folder:
        _draw_files(folder, count, seed, workers, progress)


def _draw_files(folder: Path, count: int, seed: int, workers: int, progress: Callable[[int], object]) -> None:
    """Write the images and, in their order, the labels."""
    (folder / _IMAGES).mkdir()

    def draw(index: int) -> list[str]:
        picture, fractions = draw_example(index, seed)
        galaxy_id = str(_FIRST_ID + index)
        Image.fromarray(picture).save(folder / _IMAGES / f"{galaxy_id}.jpg", quality=_JPEG_QUALITY)
        return [galaxy_id, *(f"{fraction:.6f}" for fraction in fractions)]

    def labels(drawn: Iterable[list[str]]) -> Iterator[list[str]]:
        for row in drawn:
            yield row
            progress(1)

    drawn = closing(prefetch(draw, range(count), workers=workers, most=4 * workers))
    with (folder / _LABELS).open("w", newline="") as file, drawn as rows:
        write_rows(file, ["GalaxyID", *_galaxy_zoo_tree().columns], labels(rows))
