"""Drawn galaxies for the tests of the search for objects."""

from __future__ import annotations

import math

import numpy as np


def galaxy(x, y, a, b, angle, *, size=(424, 424), peak=160.0, seed=0, noise=1.0, extra=0.0):
    """An image of an elliptical Gaussian (a, b: standard deviations; angle from x to y) on a noisy sky, in green."""
    rows, columns = np.indices(size)
    u = (columns - x) * math.cos(angle) + (rows - y) * math.sin(angle)
    v = (rows - y) * math.cos(angle) - (columns - x) * math.sin(angle)
    green = 20 + peak * np.exp(-((u / a) ** 2 + (v / b) ** 2) / 2) + extra
    green = green + noise * np.random.default_rng(seed).standard_normal(size)
    image = np.random.default_rng(seed + 1).integers(0, 256, (*size, 3)).astype(np.uint8)  # red and blue mislead
    image[..., 1] = np.clip(np.rint(green), 0, 255)
    return image
