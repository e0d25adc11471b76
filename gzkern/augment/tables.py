"""The arguments of a warp, on the CPU or on a device: where an example's crops lie and how its colours shift."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..config import AugmentConfig, DataConfig
from .geometry import crop_matrices
from .parameters import COLOUR_AXIS, Parameters, draw, identity

Tables = tuple[np.ndarray, np.ndarray]
"""Matrices (B, 2, 2, 3) float64, of ``geometry.crop_matrices``; shifts (B, 3) float32, added to (R, G, B) in [0, 1]."""


def tables(
    examples: np.ndarray,
    indices: np.ndarray,
    seed: int,
    augment: AugmentConfig,
    data: DataConfig,
    image_size: Sequence[int],
    recentring: np.ndarray | None = None,
) -> Tables:
    """The tables of training examples.

    Args:
        examples: (B,) int64, example numbers; fastest if they are consecutive.
        indices: (B,) int64, the image of each.
        seed: of the augmentation, 0 to 2**64 − 1.
        augment: its ranges.
        data: the crop.
        image_size: (height, width) in pixels.
        recentring: (n, 3) float64 of all images, see ``geometry.crop_matrices``.
    """
    return _tables(draw(seed, examples, augment), indices, data, image_size, recentring)


def identity_tables(
    indices: np.ndarray, data: DataConfig, image_size: Sequence[int], recentring: np.ndarray | None = None
) -> Tables:
    """The tables of images as they are, for validation and prediction; arguments as :func:`tables` takes them."""
    return _tables(identity(len(indices)), indices, data, image_size, recentring)


def _tables(
    parameters: Parameters,
    indices: np.ndarray,
    data: DataConfig,
    image_size: Sequence[int],
    recentring: np.ndarray | None,
) -> Tables:
    objects = None if recentring is None else recentring[indices]
    matrices = crop_matrices(parameters, image_size, data.target, data.scale, objects)
    return matrices, np.multiply.outer(parameters.colour, COLOUR_AXIS).astype(np.float32)
