"""The geometry of crops: one affine matrix a crop, from its samples to the pixels of its image.

Index coordinates: pixel centres at integers, x = column, y = row (down). A matrix maps a position in the crop
to one in the image.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ..config import AugmentConfig, DataConfig
from .parameters import Parameters

CROP_ANGLES = (0.0, 45.0)
"""Rotation of the two crops of an image, in degrees (paper, viewpoint extraction)."""


def crop_matrices(
    parameters: Parameters,
    image_size: Sequence[int],
    target: int = 69,
    scale: float = 3.0,
    recentring: np.ndarray | None = None,
) -> np.ndarray:
    """Compose pre-processing, crop rotation and augmentation (paper, pre-processing and data augmentation).

    With (u, v) = ``scale`` · (distance of a sample from the crop's centre),

        (x, y) = centre + t + R(angle) · F · R(crop angle) · (u, v) / zoom,

    F = diag(−1, 1) for a flipped image, else the identity; R(a) = [[cos a, −sin a], [sin a, cos a]].
    Recentring then maps (x, y) to object + ((x, y) − centre) / s.

    Args:
        parameters: of B images.
        image_size: (height, width) in pixels.
        target: samples along a side of a crop.
        scale: image pixels from a sample to the next.
        recentring: (B, 3) float64, an object (x, y) for each image to take the place of its centre, and s, by
            which it is magnified; none if left out.

    Returns:
        (B, 2, 2, 3) float64: for each image and crop, M with (x, y) = M · (column, row, 1).
    """
    height, width = image_size
    if recentring is None:
        recentring = np.array([[(width - 1) / 2, (height - 1) / 2, 1.0]])
    centre, s = recentring[:, :2], recentring[:, 2:]

    # F · R(crop angle) = R(∓ crop angle) · F
    mirror = np.where(parameters.flip, -1.0, 1.0)[:, None]
    turn = np.deg2rad(parameters.angle[:, None] + mirror * np.array(CROP_ANGLES))
    step = scale / (parameters.zoom[:, None] * s)
    cos, sin = step * np.cos(turn), step * np.sin(turn)

    matrices = np.empty((*turn.shape, 2, 3))
    matrices[..., 0, 0], matrices[..., 0, 1] = mirror * cos, -sin
    matrices[..., 1, 0], matrices[..., 1, 1] = mirror * sin, cos
    shifted = centre + np.stack([parameters.tx, parameters.ty], axis=-1) / s
    middle = (target - 1) / 2
    matrices[..., 2] = shifted[:, None] - middle * (matrices[..., 0] + matrices[..., 1])
    return matrices


def reach(data: DataConfig, augment: AugmentConfig | None = None) -> float:
    """Return how far from an image's centre, along an axis, a crop samples it: pixels; infinite if recentred.

    Args:
        data: the crop.
        augment: how it is perturbed; not at all if left out.
    """
    if data.recentre != "none":
        return math.inf
    corner = (data.target - 1) / 2 * data.scale * math.sqrt(2)  # of the crop at 45°, or turned by so much
    return corner * augment.zoom + augment.translation if augment else corner
