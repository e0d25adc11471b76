"""Light profiles on the survey's pixel grid: each a (n, n) float32 map.

The challenge shows every galaxy at about one size: a cutout of the survey, enlarged until the galaxy stands
out in the 424-pixel frame. So light is drawn on the coarse pixels of the survey, n across, while all lengths
are given in pixels of the frame, from its centre, x to the right and y down.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.special import k1

FRAME = 424
"""Width and height of an image in pixels."""


@dataclass(frozen=True)
class Grid:
    """n × n survey pixels over the frame, seen from the point (x0, y0)."""

    n: int
    x0: float = 0.0
    y0: float = 0.0

    @property
    def pixel(self) -> float:
        """Side of one survey pixel in frame pixels."""
        return FRAME / self.n

    @cached_property
    def _axis(self) -> np.ndarray:
        return ((np.arange(self.n) - (self.n - 1) / 2) * self.pixel).astype(np.float32)

    def rotated(self, angle: float) -> tuple[np.ndarray, np.ndarray]:
        """Coordinates (n, n) along and across an axis at ``angle`` radians from x towards y."""
        x, y = self._axis[None, :] - np.float32(self.x0), self._axis[:, None] - np.float32(self.y0)
        cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
        return cos * x + sin * y, cos * y - sin * x

    def moved(self, x0: float, y0: float) -> Grid:
        """The same pixels seen from a point further right and down."""
        return Grid(self.n, self.x0 + x0, self.y0 + y0)

    def deposit(self, x: np.ndarray, y: np.ndarray, flux: np.ndarray) -> np.ndarray:
        """Point sources (k,) on the pixels (n, n), shared by the nearest four; those outside are lost."""
        column = (np.asarray(x) + self.x0) / self.pixel + (self.n - 1) / 2
        row = (np.asarray(y) + self.y0) / self.pixel + (self.n - 1) / 2
        left, top = np.floor(column).astype(int), np.floor(row).astype(int)
        light = np.zeros((self.n, self.n), np.float32)
        for dx in (0, 1):
            for dy in (0, 1):
                weight = flux * (1 - np.abs(column - left - dx)) * (1 - np.abs(row - top - dy))
                inside = (left + dx >= 0) & (left + dx < self.n) & (top + dy >= 0) & (top + dy < self.n)
                np.add.at(light, (top[inside] + dy, left[inside] + dx), weight[inside])
        return light


def from_axes(u: np.ndarray, v: np.ndarray, angle: float) -> tuple[np.ndarray, np.ndarray]:
    """From coordinates along and across an axis to those of the frame: the inverse of `Grid.rotated`."""
    return np.cos(angle) * u - np.sin(angle) * v, np.sin(angle) * u + np.cos(angle) * v


def unit(light: np.ndarray) -> np.ndarray:
    """The map scaled to a sum of 1."""
    return light / light.sum()


def elliptical_radius(along: np.ndarray, across: np.ndarray, axis_ratio: float, exponent: float = 2.0) -> np.ndarray:
    """Major axis of the ellipse through each point; an exponent above 2 makes the ellipses boxy."""
    if exponent == 2.0:
        return np.hypot(along, across / axis_ratio)
    return (np.abs(along) ** exponent + np.abs(across / axis_ratio) ** exponent) ** (1 / exponent)


def sersic(radius: np.ndarray, half_light: float, index: float, core: float) -> np.ndarray:
    """Sérsic's law, of unit flux.

    Steep laws diverge within one pixel, whose mean a single sample would overstate; ``core`` (in the unit of
    the radius, about half a pixel) flattens the cusp, well inside the seeing.
    """
    steepness = 2 * index - 1 / 3 + 4 / (405 * index)
    soft = np.sqrt(radius**2 + core**2) / half_light
    return unit(np.exp(-steepness * (soft ** (1 / index) - 1)))


def edge_on_disk(along: np.ndarray, height: np.ndarray, scale: float, thickness: float) -> np.ndarray:
    """An exponential disk of sech² layers seen from its edge (van der Kruit & Searle 1981), of unit flux.

    The exact case has pointed ends; real disks are cut off near four scale lengths and slightly tilted, for
    which height is counted into the radius, and look rounder.
    """
    x = np.maximum(np.hypot(along / scale, 0.8 * height / thickness), 1e-3)
    layers = np.cosh(np.minimum(np.abs(height) / (1.2 * thickness), 40)) ** -2.0
    return unit(x * k1(x) * layers * np.exp(-((x / 3.8) ** 4)))


def smoothstep(value: np.ndarray, low: float, high: float) -> np.ndarray:
    """0 below ``low``, 1 above ``high``, a smooth rise between."""
    t = np.clip((value - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)
