"""Populations of stars: their colour, and a layer of light as one population's map."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

_YOUNG = np.array([0.80, 0.98, 1.22])
_OLD = np.array([1.37, 1.06, 0.57])
KNOT = np.array([0.86, 0.78, 1.36])
"""Hot stars and glowing hydrogen: bluish magenta."""


class Layer(NamedTuple):
    """One population: its share of the galaxy's light, its map (n, n) of unit flux, its colour (3,)."""

    share: float
    light: np.ndarray
    colour: np.ndarray


def population_colour(age: float) -> np.ndarray:
    """(3,) light in red, green and blue, of mean 1, from young stars (0) to old ones (1)."""
    return _YOUNG + age * (_OLD - _YOUNG)
