"""From a galaxy's shape to its light, before the atmosphere and the camera."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.ndimage import gaussian_filter

from .disk import bar_light, bulge_layer, disk_layers
from .morphology import Galaxy
from .populations import KNOT, Layer, population_colour
from .profiles import Grid, edge_on_disk, elliptical_radius, from_axes, sersic, unit

_DUST = np.array([0.7, 1.0, 1.3])  # relative opacity in red, green and blue


def galaxy_light(galaxy: Galaxy, grid: Grid) -> np.ndarray:
    """Light (3, n, n) float32 in red, green and blue of a galaxy at the grid's origin.

    Its own flux, the mean of the channels, is about 1; dust, tails, arcs and the companion change that. It is
    a pure function: the texture comes from the galaxy's own seed.
    """
    rng = np.random.default_rng(galaxy.seed)
    layers = _PAINT[galaxy.body](galaxy, grid, rng)
    if galaxy.disturbance and galaxy.body != "irregular":
        layers.append(_tidal_tails(galaxy, grid, rng))
    if galaxy.arc:
        layers.append(_arc(galaxy, grid, rng))
    colours = np.stack([layer.share * layer.colour for layer in layers], axis=1).astype(np.float32)
    light = np.tensordot(colours, np.stack([layer.light for layer in layers]), axes=1)
    if galaxy.dust:
        light *= _dust_transmission(galaxy, grid)
    if galaxy.companion is not None:
        other = galaxy.companion
        light += other.ratio * galaxy_light(other.galaxy, grid.moved(other.x, other.y))
    return light


def _spheroid(galaxy: Galaxy, grid: Grid, rng: np.random.Generator) -> list[Layer]:
    radius = elliptical_radius(*grid.rotated(galaxy.angle), galaxy.axis_ratio)
    light = sersic(radius, galaxy.half_light, galaxy.sersic, core=grid.pixel / 2)
    return [Layer(1.0, light, population_colour(galaxy.age))]


def _edge_on(galaxy: Galaxy, grid: Grid, rng: np.random.Generator) -> list[Layer]:
    scale = galaxy.half_light / 1.678
    along, height = grid.rotated(galaxy.angle)
    warp = rng.normal(0, 0.02 + 0.1 * galaxy.disturbance)
    height = height - warp * along * np.abs(along) / (3 * scale)
    disk = edge_on_disk(along, height, scale, galaxy.axis_ratio * scale)
    roundness = 0.6 + 1.2 * galaxy.axis_ratio
    return [
        bulge_layer(galaxy, grid, roundness),
        Layer(1 - galaxy.bulge, disk, population_colour(galaxy.age)),
    ]


def _dust_transmission(galaxy: Galaxy, grid: Grid) -> np.ndarray:
    """(3, n, n) share of the light that a lane of dust along the major axis lets through."""
    along, height = grid.rotated(galaxy.angle)
    scale = galaxy.half_light / 1.678
    across = (height - 0.04 * scale) / (0.13 * scale)  # off the plane: no disk is seen exactly from its edge
    depth = 3.5 * galaxy.dust * np.exp(-0.5 * across**2 - (along / (2.2 * scale)) ** 2)
    return np.exp(-_DUST[:, None, None] * depth).astype(np.float32)


def _irregular(galaxy: Galaxy, grid: Grid, rng: np.random.Generator) -> list[Layer]:
    """A young galaxy without order: a patchy lopsided disk, knots strewn over it, sometimes a bar."""
    scale = galaxy.half_light / 1.678
    along, across = grid.rotated(galaxy.angle)
    bar_angle = rng.uniform(0, np.pi)
    u, v = rng.normal(0, 1.1 * scale, (2, 12 + rng.poisson(15)))
    slide = scale * galaxy.disturbance * rng.normal(0, 0.6, 2)
    radius = elliptical_radius(along - slide[0], across - slide[1], galaxy.axis_ratio) / scale
    patches = gaussian_filter(rng.standard_normal((grid.n, grid.n)), 0.4 * scale / grid.pixel)
    patchy = np.exp(-radius + (0.15 + 0.4 * galaxy.flocculence) * patches / patches.std())
    x, y = from_axes(u, v * galaxy.axis_ratio, galaxy.angle)
    flux = rng.dirichlet(np.full(len(u), 0.7))
    colour = population_colour(galaxy.age)
    layers = [
        Layer(0.92 - galaxy.bar, unit(patchy), colour),
        Layer(0.08, _blurred(grid, x, y, flux, 0.08 * scale), KNOT),
    ]
    if galaxy.bar:
        bar = bar_light(along, across / galaxy.axis_ratio, 1.1 * scale, bar_angle)
        layers.append(Layer(galaxy.bar, bar, colour))
    return layers


def _star(galaxy: Galaxy, grid: Grid, rng: np.random.Generator) -> list[Layer]:
    """A star so bright that its halo and the cross diffracted by the telescope's vanes fill the frame."""
    x, y = grid.rotated(galaxy.angle)
    halo = unit((np.hypot(x, y) + 2 * grid.pixel) ** -3.2)
    reach = galaxy.half_light * rng.uniform(1.5, 4)
    thin = 0.7 * grid.pixel
    cross = np.exp(-np.abs(x) / reach - (y / thin) ** 2) + np.exp(-np.abs(y) / reach - (x / thin) ** 2)
    colour = population_colour(galaxy.age)
    return [Layer(0.97, halo, colour), Layer(0.03, unit(cross), colour)]


def _tidal_tails(galaxy: Galaxy, grid: Grid, rng: np.random.Generator) -> Layer:
    """Two streams of stars that leave the galaxy on opposite sides, bend, widen and thin out."""
    count, scale = 2500, galaxy.half_light / 1.678
    side = rng.integers(2, size=count)
    path = rng.beta(1.0, 1.6, count)
    sweep, growth = rng.uniform(1.2, 2.6, 2), rng.uniform(0.5, 1.1, 2)
    weight = np.array([1.0, rng.uniform(0.1, 1)])[side]
    radius = scale * 1.3 * np.exp(growth[side] * 1.2 * path) * (1 + 0.09 * rng.normal(size=count))
    azimuth = galaxy.angle + np.pi * side + galaxy.handedness * sweep[side] * path
    light = _blurred(grid, radius * np.cos(azimuth), radius * np.sin(azimuth), weight / weight.sum(), 0.13 * scale)
    return Layer(0.2 * galaxy.disturbance, light, population_colour(0.5 * galaxy.age))


def _arc(galaxy: Galaxy, grid: Grid, rng: np.random.Generator) -> Layer:
    """A blue source behind, drawn out along the Einstein ring, with a short counter-image opposite."""
    count, ring = 1500, galaxy.half_light * rng.uniform(1.3, 2)
    counter = rng.random(count) < 0.2
    length = np.where(counter, 0.1, rng.uniform(0.2, 0.45))
    azimuth = rng.uniform(0, 2 * np.pi) + np.pi * counter + length * rng.normal(size=count)
    light = _blurred(grid, ring * np.cos(azimuth), ring * np.sin(azimuth), np.full(count, 1 / count), 0.04 * ring)
    return Layer(0.08 * galaxy.arc, light, population_colour(0))


def _blurred(grid: Grid, x: np.ndarray, y: np.ndarray, flux: np.ndarray, width: float) -> np.ndarray:
    """(n, n) light of points (k,) spread to clouds of standard deviation ``width`` frame pixels."""
    return gaussian_filter(grid.deposit(x, y, flux), width / grid.pixel)


_PAINT: dict[str, Callable[[Galaxy, Grid, np.random.Generator], list[Layer]]] = {
    "elliptical": _spheroid,
    "disk": disk_layers,
    "edge-on": _edge_on,
    "irregular": _irregular,
    "star": _star,
}
