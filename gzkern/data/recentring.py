"""Recentring and rescaling: every galaxy in the middle of its crop, and of one size (the original's "pysex" networks).

The objects of a pack are found once and stored in it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..config import DataConfig
from ..errors import GzkernError, InputError
from .dataset import Dataset
from .object_search import find_objects
from .object_tables import object_file, read_objects, write_objects
from .objects import DETECT_THRESH, find_object, require_sep
from .pack import open_pack

_RADIUS = 160 / 3  # samples of a crop, to which the Petrosian radius is brought (160 pixels at the original's scale)
_MOST = 1.5  # the factor by which an image is magnified or made smaller at most


class Recentred(NamedTuple):
    """A file of objects that was written: of ``images`` images, ``missing`` of them without an object."""

    path: Path
    images: int
    missing: int


def recentring(objects: np.ndarray, data: DataConfig) -> np.ndarray:
    """Turn objects into the parameters that recentre and rescale their images.

    s = r / (petro · a) for r = 160 pixels at the original's 3 pixels a sample, and in proportion at other scales; 1
    without an object; at most 1.5, at least 1/1.5.

    Args:
        objects: (n, 6) float64, see ``objects.COLUMNS``.
        data: the crop.

    Returns:
        (n, 3) float64: x, y and s as ``augment.geometry.crop_matrices`` takes them.
    """
    x, y, a, _, _, petro = objects.T
    s = _RADIUS * data.scale / (petro * a)
    s = np.clip(np.where(np.isnan(s), 1.0, s), 1 / _MOST, _MOST)
    return np.stack([x, y, s], axis=1)


def recentring_of(dataset: Dataset, data: DataConfig, *, progress: bool = True) -> np.ndarray | None:
    """Return the parameters that recentre the images of a data set, as ``data.recentre`` says.

    It is read from the pack, or else computed and stored there; of a folder of images it is computed.

    Args:
        dataset: its images must be whole.
        data: the configuration.
        progress: show a bar, and what could not be stored, on stderr.

    Returns:
        (n, 3) float64, see :func:`recentring`; None for "none".

    Raises:
        InputError: the images are cropped, what is stored is not sound, or sep is not installed and needed.
        GzkernError: an image could not be searched.
    """
    if data.recentre == "none":
        return None
    _require_whole_images(dataset)
    path = None if dataset.path is None else object_file(dataset.path, data.recentre)
    if path and path.exists():
        return recentring(read_objects(path, dataset, data.recentre), data)
    objects = find_objects(dataset.images, data.recentre, progress=progress, ids=dataset.ids)
    if path:
        try:
            write_objects(path, dataset, data.recentre, objects)
        except GzkernError as error:
            if progress:
                print(f"gzkern: {error}; the objects serve this run and are found anew by the next", file=sys.stderr)
    return recentring(objects, data)


def recentring_of_image(image: np.ndarray, data: DataConfig) -> np.ndarray | None:
    """Return the parameters that recentre one image, (H, W, 3) uint8; any number of threads may call it at a time.

    Returns:
        (1, 3) float64, see :func:`recentring`; None for "none".

    Raises:
        InputError: sep is not installed.
    """
    if data.recentre == "none":
        return None
    return recentring(find_object(image, data.recentre)[np.newaxis], data)


def recentre(
    pack: str | Path,
    sets: Sequence[str] = tuple(DETECT_THRESH),
    *,
    workers: int | None = None,
    overwrite: bool = False,
    progress: bool = True,
) -> list[Recentred]:
    """Find the objects of a pack, and store them in it for training and prediction.

    Args:
        pack: the directory.
        sets: "gen1", "gen2", or both.
        workers: processes; one a core if left out.
        overwrite: replace what is stored; else only sets that are not are found.
        progress: show bars on stderr.

    Raises:
        InputError: no sound pack, its images are cropped, objects are stored already, the directory is not writable,
            or sep is not installed.
        GzkernError: an image could not be searched.
    """
    pack = Path(pack)
    require_sep()
    dataset = open_pack(pack, progress=progress)
    _require_whole_images(dataset)
    paths = {name: object_file(pack, name) for name in sets}
    if not overwrite:
        there = [path for path in paths.values() if path.exists()]
        if len(there) == len(paths):
            raise InputError(f"{there[0]}: already exists; pass --overwrite to find the objects anew")
        paths = {name: path for name, path in paths.items() if path not in there}
    if not os.access(pack, os.W_OK):
        raise InputError(f"{pack}: is not writable, so the objects cannot be stored there")
    written = []
    for name, path in paths.items():
        objects = find_objects(dataset.images, name, workers=workers, progress=progress, ids=dataset.ids)
        write_objects(path, dataset, name, objects)
        written.append(Recentred(path, len(objects), int(np.isnan(objects[:, 2]).sum())))
    return written


def _require_whole_images(dataset: Dataset) -> None:
    height, width = dataset.images.shape[1:3]
    if (height, width) != dataset.whole_size:
        raise InputError(
            f"{dataset.path}: holds the central {width}×{height} pixels of its images, but recentring needs whole "
            "ones; run gzkern pack again without --crop"
        )
