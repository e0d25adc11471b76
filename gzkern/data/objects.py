"""The galaxy in the middle of an image, found and measured as SExtractor does (`sep` is its code as a library).

The settings are SExtractor's defaults, which the original took through pysex: background and noise on a mesh of 64
pixels, smoothed over 3 × 3 cells; a 3 × 3 kernel of 2 pixels FWHM; objects of 5 pixels or more, deblended at 32 levels
with a contrast of 0.005, cleaned. DETECT_THRESH, in standard deviations of the noise, is the original's.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..errors import InputError

COLUMNS = ("x", "y", "a", "b", "theta", "petro")
"""Measurements of an object: its barycentre in pixels counted from 0 (x = column, y = row, down), its semi-axes in
pixels, the angle of ``a`` from the x axis towards the y axis in radians, the Petrosian radius in units of ``a``."""

DETECT_THRESH = {"gen1": 10.0, "gen2": 2.0}
"""The original's two parameter sets."""

_SIZE = 424  # pixels along a side of the original's images; on others, lengths are in proportion
_MESH = 64
_CENTRALITY = 5000.0
_KERNEL = np.array([[1, 2, 1], [2, 4, 2], [1, 2, 1]], np.float32)
_BINS = 200  # to 6 times a: the edges of all of SExtractor's annuli are edges of bins of 0.03 a


def find_object(image: np.ndarray, threshold_set: str) -> np.ndarray:
    """Measure the most salient object of an image; any number of threads may do so at a time.

    Salient is what is large and central: the object with the largest π·a·b·exp(−d²/5000), d being its distance from
    the centre. Lengths (this 5000's root, and the background's mesh) are those of images of 424 pixels; they grow
    and shrink with the shorter side.

    Args:
        image: (H, W, 3) uint8; the green channel is looked at.
        threshold_set: "gen1" (objects 10 σ above the background) or "gen2" (2 σ).

    Returns:
        (6,) float64, see ``COLUMNS``; where nothing was found, the image's centre and four NaN.

    Raises:
        InputError: sep is not installed, or there is no such set.
    """
    require_sep()
    return find_in_plane(image[..., 1], threshold_of(threshold_set))


def require_sep() -> None:
    """Refuse to go on without sep.

    Raises:
        InputError: it is not installed.
    """
    try:
        import sep  # noqa: F401
    except ImportError:
        raise InputError(
            'recentring needs sep to find the galaxies; run: pip install "gzkern[astro]", or run gzkern recentre PACK '
            "where sep is installed and copy the pack with what that has written"
        ) from None


def threshold_of(threshold_set: str) -> float:
    """Return the threshold of a set, in standard deviations of the noise.

    Raises:
        InputError: there is no such set.
    """
    if threshold_set not in DETECT_THRESH:
        raise InputError(f"objects: no set {threshold_set!r}, expected one of {', '.join(DETECT_THRESH)}")
    return DETECT_THRESH[threshold_set]


def find_in_plane(green: np.ndarray, threshold: float) -> np.ndarray:
    """Measure the most salient object of a plane, (H, W) uint8, above so many σ: (6,) float64, see ``COLUMNS``."""
    import sep

    height, width = green.shape
    scale = min(height, width) / _SIZE
    middle_x, middle_y = (width - 1) / 2, (height - 1) / 2
    # pysex hands SExtractor the transposed image, and how blended objects share their pixels depends on the order.
    light = np.ascontiguousarray(green.T, np.float32) / np.float32(255)
    mesh = max(1, round(_MESH * scale))
    background = sep.Background(light, bw=mesh, bh=mesh, fw=3, fh=3)
    background.subfrom(light)
    objects, members = _extract(light, threshold * background.globalrms)
    if not len(objects):
        return np.array([middle_x, middle_y, *[math.nan] * 4])
    x, y, a, b = (objects[name] for name in ("y", "x", "a", "b"))
    distance2 = (x - middle_x) ** 2 + (y - middle_y) ** 2
    best = int(np.argmax(np.pi * a * b * np.exp(-distance2 / (_CENTRALITY * scale**2))))
    petro = _petrosian_radius(light, members, best + 1, objects[best])
    theta = np.pi / 2 - objects["theta"][best]
    theta -= np.pi * (theta > np.pi / 2)
    return np.array([x[best], y[best], a[best], b[best], theta, petro])


def _extract(light: np.ndarray, threshold: float) -> tuple[np.ndarray, np.ndarray]:
    """The objects of a plane, and the number (from 1) of that to which each pixel belongs, 0 for none."""
    import sep

    if sep.get_extract_pixstack() < light.size + 2:
        sep.set_extract_pixstack(light.size + 2)  # room for an object of all pixels
    settings: dict[str, Any] = {"minarea": 5, "filter_kernel": _KERNEL, "clean": True, "clean_param": 1.0}
    try:
        return sep.extract(light, threshold, deblend_nthresh=32, deblend_cont=0.005, segmentation_map=True, **settings)
    except Exception as error:  # sep has no class for it
        if "deblending" not in str(error):
            raise
        return sep.extract(light, threshold, deblend_nthresh=1, segmentation_map=True, **settings)


def _petrosian_radius(light: np.ndarray, members: np.ndarray, number: int, found: Any) -> float:
    """SExtractor's PETRO_RADIUS with its defaults, PHOT_PETROPARAMS 2.0, 3.5, in units of the object's ``a``.

    The mean in the annulus from k to 1.2 k is compared with that within 1.1 k, for k = 0.3, 0.6, … while 1.2 k is
    below 6; twice the first 1.1 k at which it is below 0.2 of it, or the last, but at least 3.5. The pixels of other
    objects are left out.
    """
    columns, dx = _within(found["x"], 6 * math.sqrt(found["x2"]), light.shape[1])
    rows, dy = _within(found["y"], 6 * math.sqrt(found["y2"]), light.shape[0])
    dy = dy[:, np.newaxis]
    radius = np.sqrt(np.abs(found["cxx"] * dx * dx + found["cyy"] * dy * dy + found["cxy"] * dx * dy))
    owner = members[rows, columns]
    counted = (radius < 6) & ((owner == 0) | (owner == number))
    bins = (radius[counted] * (_BINS / 6)).astype(np.int64)
    pixels = np.cumsum(np.bincount(bins, minlength=_BINS))
    flux = np.cumsum(np.bincount(bins, light[rows, columns][counted], minlength=_BINS))
    step = np.arange(1, 17)
    inner, middle, outer = 10 * step - 1, 11 * step - 1, 12 * step - 1  # the last bins below k, 1.1 k and 1.2 k
    in_annulus, within = pixels[outer] - pixels[inner], pixels[middle]
    # The comparison of the means, without their quotients: there may be no pixel.
    faint = (flux[outer] - flux[inner]) * within < 0.2 * flux[middle] * in_annulus
    faint &= (in_annulus > 0) & (within > 0)
    last = step[np.argmax(faint)] if faint.any() else step[-1]
    return max(2 * 0.33 * float(last), 3.5)


def _within(centre: float, reach: float, size: int) -> tuple[slice, np.ndarray]:
    """The pixels of an axis that are less than ``reach`` from ``centre``, and how far each is."""
    pixels = slice(max(0, math.ceil(centre - reach)), min(size, math.floor(centre + reach) + 1))
    return pixels, np.arange(pixels.start, pixels.stop) - centre
