"""The exposure: atmosphere, neighbours, sky, and the colour stretch that makes a picture of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image
from scipy import fft

from .light import galaxy_light
from .morphology import Galaxy
from .populations import population_colour
from .profiles import FRAME, Grid, elliptical_radius, sersic

_SURVEY_PIXEL = 0.396  # arcseconds
_STRETCH, _KNEE = 40.0, 6.0  # display = stretch · asinh(light / knee): 7 grey levels a sky sigma when faint
_STAR_FLUX = 12.0  # a star taken for the target outshines a galaxy of its size
_FULL_WELL = 1800.0  # sky sigmas; the cores of bright stars saturate in every band and turn white


@dataclass(frozen=True)
class Exposure:
    """The conditions in which a galaxy is seen.

    The unit of light is the standard deviation of the sky in one survey pixel.
    """

    n: int
    """Survey pixels across the frame: few for a small galaxy, which the frame enlarges the more."""
    seeing: float
    """Standard deviation of the core of the point-spread function, survey pixels."""
    surface_brightness: float
    """Mean light within the galaxy's half-light ellipse."""
    sky: tuple[float, float, float]
    """Sky left over after subtraction, in red, green and blue."""

    @property
    def grid(self) -> Grid:
        """The survey's pixels over the frame."""
        return Grid(self.n)


def draw_exposure(rng: np.random.Generator) -> Exposure:
    """Draw the conditions: the galaxy's size on the sky, seeing, signal-to-noise ratio, sky."""
    # The frame spans 8.5 radii that hold 90% of the light; in the sample these are 4 to 20 arcseconds.
    width = 8.5 * 9.0 * np.exp(rng.normal(0, 0.45))
    cast = rng.normal(0, 0.15, 3)
    if rng.random() < 0.02:  # a bright star nearby reddens the sky
        cast[0] += rng.uniform(2, 12)
    return Exposure(
        n=int(np.clip(width / _SURVEY_PIXEL, 80, FRAME)),
        seeing=float(rng.uniform(1.2, 1.6)),
        surface_brightness=float(80 * np.exp(rng.normal(0, 0.4))),
        sky=tuple(0.55 * np.exp(rng.normal(0, 0.3)) + cast),
    )


def photograph(galaxy: Galaxy, exposure: Exposure, rng: np.random.Generator) -> np.ndarray:
    """The picture: (424, 424, 3) uint8."""
    grid = exposure.grid
    area = np.pi * galaxy.axis_ratio * (galaxy.half_light / grid.pixel) ** 2
    flux = 2 * exposure.surface_brightness * area
    if galaxy.body == "star":
        flux *= _STAR_FLUX
    light = flux * galaxy_light(galaxy, grid) + _neighbours(grid, rng)
    light = np.minimum(_blur(light, exposure.seeing), _FULL_WELL)
    light += np.reshape(exposure.sky, (3, 1, 1)) + rng.standard_normal(light.shape, np.float32)
    picture = Image.fromarray(stretch(light))
    return np.asarray(picture.resize((FRAME, FRAME), Image.Resampling.BICUBIC))


def _neighbours(grid: Grid, rng: np.random.Generator) -> np.ndarray:
    """(3, n, n) light of foreground stars and of galaxies further away, by survey area."""
    area = (grid.n * _SURVEY_PIXEL / 60) ** 2  # square arcminutes
    light = np.zeros((3, grid.n, grid.n), np.float32)
    for _ in range(rng.poisson(3.5 * area)):
        colour = population_colour(rng.uniform(-0.4, 1.5))
        flux = 40 * (1 + rng.pareto(0.65))
        x, y = rng.uniform(-FRAME / 2, FRAME / 2, (2, 1))
        light += colour[:, None, None].astype(np.float32) * grid.deposit(x, y, np.minimum([flux], 4e4))
    for _ in range(rng.poisson(4 * area)):
        x0, y0 = rng.uniform(-FRAME / 2, FRAME / 2, 2)
        size = grid.pixel * rng.lognormal(0.6, 0.5)
        radius = elliptical_radius(*grid.moved(x0, y0).rotated(rng.uniform(0, np.pi)), rng.uniform(0.35, 1))
        flux = 80 * (1 + rng.pareto(0.85))
        shape = sersic(radius, size, rng.uniform(1, 3), core=grid.pixel / 2)
        colour = population_colour(rng.uniform(0, 1.5)).astype(np.float32)
        light += min(flux, 12000) * colour[:, None, None] * shape
    return light


def _blur(light: np.ndarray, seeing: float) -> np.ndarray:
    """Convolve (3, n, n) with the point-spread function: a Gaussian core and a wide faint wing.

    In Fourier space, where the width costs nothing; the margin keeps the edges from wrapping round.
    """
    n = light.shape[-1]
    size = fft.next_fast_len(n + 24, real=True)
    fy = np.fft.fftfreq(size).astype(np.float32)[:, None]
    fx = np.fft.rfftfreq(size).astype(np.float32)[None, :]
    exponent = -2 * (np.pi * seeing) ** 2 * (fx**2 + fy**2)
    transfer = 0.9 * np.exp(exponent) + 0.1 * np.exp(9 * exponent)
    spectrum = fft.rfft2(light, (size, size)) * transfer
    return fft.irfft2(spectrum, (size, size))[:, :n, :n]


def stretch(light: np.ndarray) -> np.ndarray:
    """(n, n, 3) uint8 from light (3, n, n) by the survey's colour stretch (Lupton et al. 2004).

    All channels are scaled by one factor, asinh of their mean, and what would pass 255 is scaled down as a
    whole, so that bright cores keep their colour.
    """
    mean = light.mean(axis=0)
    ratio = np.abs(mean) / _KNEE + 1e-6
    picture = light * (_STRETCH / _KNEE) * (np.arcsinh(ratio) / ratio)
    picture /= np.maximum(picture.max(axis=0) / 255, 1)
    return np.moveaxis(np.clip(picture + 0.5, 0, 255), 0, -1).astype(np.uint8)
