"""Predictions for rows of a data set, and for images in memory."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from typing import Any, NamedTuple, TypeVar

import numpy as np

from ..augment.geometry import crop_matrices, reach
from ..augment.parameters import identity
from ..augment.pool import Images, identity_crops
from ..augment.tables import identity_tables
from ..augment.warp import warp
from ..config import DataConfig
from ..data.recentring import recentring_of_image
from ..device import KernelDevice
from ..errors import InputError
from ..models.predictor import BATCH, Predictor

_Item = TypeVar("_Item")


def predict_rows(
    predictor: Predictor,
    data: DataConfig,
    images: Images,
    rows: np.ndarray,
    *,
    batch: int = BATCH,
    on_device: Any = None,
    recentring: np.ndarray | None = None,
) -> np.ndarray:
    """Answer probabilities (len(rows), A) float32 of rows of ``images`` (n, H, W, 3) uint8, unperturbed.

    ``on_device``: the same images, where they lie on the network's device already. ``recentring``: (n, 3) float64 of
    all images, see ``augment.geometry.crop_matrices``.
    """
    answers = np.empty((len(rows), len(predictor.network.tree)), np.float32)
    for start in range(0, len(rows), batch):
        part = slice(start, start + batch)
        if not isinstance(predictor.network.device, KernelDevice):
            answers[part] = predictor.predict(identity_crops(images, rows[part], data, recentring))
        else:
            matrices, _ = identity_tables(rows[part], data, images.shape[1:3], recentring)
            if on_device is None:
                answers[part] = predictor.predict_images(images[rows[part]], matrices)
            else:
                answers[part] = predictor.predict_rows(on_device, rows[part], matrices)
    return answers


def predict_images(
    predictor: Predictor, data: DataConfig, images: np.ndarray | Iterable[np.ndarray], *, batch: int = BATCH
) -> np.ndarray:
    """Answer probabilities (n, A) float32 of whole images (H, W, 3) uint8, of any sizes.

    Raises:
        InputError: an image has another shape or dtype, or is smaller than the crop.
    """
    if batch < 1:
        raise InputError(f"batch {batch}: expected at least 1 image")
    prepare = preparation(predictor, data)
    prepared = (prepare(_checked(number, image, data)) for number, image in enumerate(images))
    answers = [answers_of(predictor, data, part) for part in batches(prepared, batch)]
    return np.concatenate([np.empty((0, len(predictor.network.tree)), np.float32), *answers])


class Prepared(NamedTuple):
    """An image by itself, ready for the network: ``pixels`` (H, W, 3) uint8, and ``matrices`` (2, 2, 3) of its crops.

    On the CPU ``pixels`` are the crops (2, T, T, 3) float32 themselves.
    """

    pixels: np.ndarray
    matrices: np.ndarray


def preparation(predictor: Predictor, data: DataConfig) -> Callable[[np.ndarray], Prepared]:
    """A function of one image: on the CPU it makes the crops, else it cuts out the part that the device will warp."""
    return partial(_seen if isinstance(predictor.network.device, KernelDevice) else _crops, data=data)


def answers_of(predictor: Predictor, data: DataConfig, prepared: Sequence[Prepared]) -> np.ndarray:
    """Answers (n, A) of n images that :func:`preparation` prepared."""
    device = predictor.network.device
    if not isinstance(device, KernelDevice):
        return predictor.predict(np.stack([one.pixels for one in prepared]))
    shapes = list(dict.fromkeys(one.pixels.shape for one in prepared))
    if len(shapes) == 1:
        images, matrices = (np.stack(arrays) for arrays in zip(*prepared, strict=True))
        return predictor.predict_images(images, matrices)
    crops = np.empty((len(prepared), 2, data.target, data.target, 3), np.float32)
    for shape in shapes:
        rows = [row for row, one in enumerate(prepared) if one.pixels.shape == shape]
        images, matrices = (np.stack(arrays) for arrays in zip(*(prepared[row] for row in rows), strict=True))
        crops[rows] = _device_crops(device, images, matrices, data.target)
    return predictor.predict(crops)


def _device_crops(device: KernelDevice, images: np.ndarray, matrices: np.ndarray, target: int) -> np.ndarray:
    """Crops of images of one size (n, H, W, 3), by the device."""
    tables = np.arange(len(images)), matrices, np.zeros((len(images), 3), np.float32)
    step = device.asarray(np.zeros(1, np.int64))
    indices, matrices, shifts = (device.asarray(table[None]) for table in tables)
    crops = device.operations.warp.crops(device.asarray(images), indices, matrices, shifts, step, target)
    return device.asnumpy(crops)


def _checked(number: int, image: np.ndarray, data: DataConfig) -> np.ndarray:
    image = np.asarray(image)
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise InputError(f"image {number} is {image.dtype} {image.shape}, expected uint8 (H, W, 3)")
    height, width = image.shape[:2]
    if min(height, width) < data.crop:
        raise InputError(f"image {number} has {width}×{height} pixels, fewer than the {data.crop}-pixel crop")
    return image


def _seen(image: np.ndarray, data: DataConfig) -> Prepared:
    """Cut out the part of an image that the crops see, so that most are of one size; it keeps the centre."""
    most = 2 * reach(data) + 2
    edges = [math.floor(max(extent - most, 0) / 2) for extent in image.shape[:2]]
    rows, columns = (slice(edge, extent - edge) for edge, extent in zip(edges, image.shape[:2], strict=True))
    seen = np.ascontiguousarray(image[rows, columns])
    return Prepared(seen, _matrices(seen, data))


def _crops(image: np.ndarray, data: DataConfig) -> Prepared:
    matrices = _matrices(image, data)
    return Prepared(warp([image], matrices[None], data.target)[0], matrices)


def _matrices(image: np.ndarray, data: DataConfig) -> np.ndarray:
    """Return the matrices of an image's crops, (2, 2, 3) float64; a recentred image must be whole."""
    size = image.shape[:2]
    return crop_matrices(identity(1), size, data.target, data.scale, recentring_of_image(image, data))[0]


def batches(items: Iterable[_Item], size: int) -> Iterator[list[_Item]]:
    """Lists of ``size`` items; the last one may be shorter."""
    iterator = iter(items)
    while part := list(islice(iterator, size)):
        yield part
