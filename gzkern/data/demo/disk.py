"""Disks seen from above or aslant: bulge, bar, ring, spiral arms and the knots along them."""

from __future__ import annotations

import numpy as np

from .morphology import Galaxy
from .populations import KNOT, Layer, population_colour
from .profiles import Grid, elliptical_radius, from_axes, sersic, smoothstep, unit


def bulge_layer(galaxy: Galaxy, grid: Grid, roundness: float) -> Layer:
    """The bulge, with ``roundness`` its axis ratio; the more light it holds, the further it reaches."""
    radius = elliptical_radius(*grid.rotated(galaxy.angle), roundness, galaxy.boxiness)
    size = galaxy.half_light * (0.14 + 0.4 * galaxy.bulge)
    light = sersic(radius, size, galaxy.sersic, core=grid.pixel / 2)
    return Layer(galaxy.bulge, light, population_colour(0.5 + 0.5 * galaxy.age))


def disk_layers(galaxy: Galaxy, grid: Grid, rng: np.random.Generator) -> list[Layer]:
    """Bulge, smooth disk, bar, ring, spiral arms and their knots, all in the plane of the disk."""
    scale = galaxy.half_light / 1.678  # half the light of an exponential disk lies within 1.678 scale lengths
    along, across = grid.rotated(galaxy.angle)
    across = across * np.float32(galaxy.handedness / galaxy.axis_ratio)
    radius = np.hypot(along, across) / scale
    if galaxy.disturbance:  # the outskirts slide off the centre
        slide = 0.5 * galaxy.disturbance * radius**2 / (1 + 0.4 * radius**2)
        radius = np.hypot(along / scale - slide, across / scale)
    bar_end = rng.uniform(0.9, 1.4)
    bar_angle = rng.uniform(0, np.pi)
    inner = bar_end if galaxy.bar else rng.uniform(0.25, 0.6)
    ridge = _Ridge(galaxy, inner, bar_angle, rng)

    disk_share = 1 - galaxy.bulge
    bar_share = disk_share * galaxy.bar
    ring_share = (disk_share - bar_share) * 0.3 * galaxy.ring
    arm_share = (disk_share - bar_share - ring_share) * galaxy.contrast * (galaxy.arms > 0)
    roundness = 0.6 + 0.4 * galaxy.axis_ratio  # a bulge is rounder than its disk
    old, young = population_colour(galaxy.age), population_colour(0.35 * galaxy.age)
    layers = [
        bulge_layer(galaxy, grid, roundness),
        Layer(disk_share - arm_share - ring_share - bar_share, unit(np.exp(-radius)), old),
    ]
    if galaxy.bar:
        layers.append(Layer(bar_share, bar_light(along, across, bar_end * scale, bar_angle), old))
    if galaxy.ring:
        at, width = rng.uniform(1.6, 2.4), rng.uniform(0.16, 0.3)
        layers.append(Layer(ring_share, unit(np.exp(-0.5 * ((radius - at) / width) ** 2)), young))
    if arm_share:
        layers.append(Layer(0.88 * arm_share, ridge.arms(along, across, radius), young))
        u, v, flux = ridge.knots(rng)
        x, y = from_axes(u * scale, v * scale * galaxy.axis_ratio * galaxy.handedness, galaxy.angle)
        layers.append(Layer(0.12 * arm_share, grid.deposit(x, y, flux), KNOT))
    return layers


def bar_light(along: np.ndarray, across: np.ndarray, length: float, angle: float) -> np.ndarray:
    """A flat-topped boxy bar of half-length ``length`` in the plane of the disk, of unit flux."""
    a = np.cos(angle) * along + np.sin(angle) * across
    b = np.cos(angle) * across - np.sin(angle) * along
    return unit(np.exp(-((elliptical_radius(a, b, 0.26, 2.6) / (0.75 * length)) ** 2)))


class _Ridge:
    """The crests of logarithmic spiral arms, in the plane of the disk; radii in scale lengths."""

    def __init__(self, galaxy: Galaxy, inner: float, start_angle: float, rng: np.random.Generator):
        self.arms_count = galaxy.arms
        self.winding = 1 / np.tan(galaxy.pitch)
        self.inner, self.start_angle = inner, start_angle
        self.wobble, self.wobble_phase = rng.uniform(0.05, 0.3), rng.uniform(0, 2 * np.pi)
        self.lopsided, self.lopsided_phase = rng.uniform(0, 0.5), rng.uniform(0, 2 * np.pi)
        self.sharpness = rng.uniform(0.9, 2.3) * 4 / (1 + max(galaxy.arms, 1))
        self.flocculence = galaxy.flocculence
        # Patches shear like the arms do: modes of more than arms-fold symmetry along the same winding.
        self.modes = [(m, rng.uniform(0.5, 1.1), rng.uniform(0, 2 * np.pi), rng.normal(0, 2.5)) for m in (3, 5, 7, 9)]

    def angle(self, radius: np.ndarray) -> np.ndarray:
        """Return the angle at which the first arm crosses each radius, radians."""
        log_radius = np.log(np.maximum(radius, 0.05) / self.inner)
        return self.start_angle + self.winding * log_radius + self.wobble * np.sin(2.2 * log_radius + self.wobble_phase)

    def arms(self, along: np.ndarray, across: np.ndarray, radius: np.ndarray) -> np.ndarray:
        """(n, n) light of the arms, of unit flux: crests on a broader disk, fading at both ends."""
        azimuth = np.arctan2(across, along)
        behind = azimuth - self.angle(radius)
        crest = np.exp(self.sharpness * (np.cos(self.arms_count * behind) - 1))
        crest *= 1 + self.lopsided * np.cos(azimuth - self.lopsided_phase)
        patches = np.zeros_like(crest)
        for m, shear, phase, radial in self.modes:
            angle = azimuth - shear * (azimuth - behind)
            patches += np.cos(m * angle + phase + radial * np.log(np.maximum(radius, 0.2)))
        crest *= np.exp((0.3 + 0.7 * self.flocculence) * patches)
        ends = smoothstep(radius, 0.7 * self.inner, 1.2 * self.inner) * np.exp(-((radius / 4.2) ** 4))
        return unit(crest * ends * np.exp(-radius / 1.25))

    def knots(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Star-forming regions along the arms: (k,) u and v in scale lengths, fluxes that sum to 1."""
        count = 8 + rng.poisson(30)
        radius = self.inner + rng.gamma(2.2, 0.55, count)
        arm = rng.integers(self.arms_count, size=count) * 2 * np.pi / self.arms_count
        scatter = (0.1 + 0.5 * self.flocculence) * rng.normal(size=count)
        azimuth = self.angle(radius) + arm + scatter
        flux = rng.lognormal(0, 0.9, count) * np.exp(-radius / 2)
        return radius * np.cos(azimuth), radius * np.sin(azimuth), flux / flux.sum()
