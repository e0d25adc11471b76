"""FITS images: reading one or three bands, and stretching fluxes to what a picture shows."""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable
from io import BufferedReader, BytesIO
from typing import Any

import numpy as np

from ..errors import ImageError

_GZIP = b"\x1f\x8b"
STARTS = (b"SIMPLE", _GZIP)
"""The first bytes of FITS files, plain and compressed."""

_MAX_UNZIPPED = 2**28  # bytes; more than a picture has
_MOST = 1e30  # a larger value is no flux, and its square overflows
_STRETCH, _Q = 75, 2.5  # noises, and no unit; by them galaxies look as in the pictures of SDSS
_BRIGHT = 100  # noises; at most 1 % of the pixels are taken to be brighter


def read_bands(file: BufferedReader, size: int, accept: Callable[[int, int], None]) -> np.ndarray:
    """Read the first image of one or three bands in a FITS file.

    That is an array (H, W), (3, H, W) or (H, W, 3) of integers or floats in any HDU, tile-compressed too; BSCALE, BZERO
    and BLANK are heeded. FITS counts rows from the bottom; here the first row is the top one, as viewers show it.

    Args:
        file: open at its start; may be compressed by gzip.
        size: its bytes, for messages.
        accept: called with width and height in pixels before the data are read; raises what is to be raised.

    Returns:
        (1, H, W) or (3, H, W) float32; not finite where a pixel has no value.

    Raises:
        ImageError: there is no such image, the file is truncated or damaged, or a package is not installed.
    """
    try:
        from astropy.io import fits
    except ImportError:
        raise ImageError('reading FITS needs astropy and sep; run: pip install "gzkern[astro]"') from None
    try:
        content = _unzip(file) if file.peek(2).startswith(_GZIP) else file
        # A memory map of a file that is cut short while it is read would end the process.
        with fits.open(content, memmap=False) as hdus:
            hdu, axes = _first_image(hdus)
            height, width = (hdu.shape[axis] for axis in axes[-2:])
            accept(width, height)
            try:
                data = hdu.data
            except Exception:
                place = hdu.fileinfo()
                if content.seek(0, os.SEEK_END) < place["datLoc"] + place["datSpan"]:
                    raise EOFError from None
                raise
            with np.errstate(over="ignore"):
                bands = data.transpose(axes).astype(np.float32)
            return bands.reshape(-1, height, width)[:, ::-1]
    except (ImageError, MemoryError):
        raise
    except EOFError:
        raise ImageError(f"truncated after {size:,} bytes") from None
    except Exception as error:  # astropy raises almost anything on a damaged file
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise ImageError(f"damaged ({' '.join(str(error).split())})") from None


def _first_image(hdus: Any) -> tuple[Any, tuple[int, ...]]:
    """The first HDU of one or three bands, and its axes in the order (band, row, column) or (row, column)."""
    found = []
    for hdu in hdus:
        if hdu.fileinfo()["datSpan"] < 0:  # astropy would go back by it, and never end
            raise ImageError("damaged (a negative size)")
        shape = hdu.shape if getattr(hdu, "is_image", False) else None
        if shape and len(shape) == 2:
            return hdu, (0, 1)
        if shape and len(shape) == 3 and 3 in (shape[0], shape[2]):
            return hdu, (0, 1, 2) if shape[0] == 3 else (2, 0, 1)
        if shape != ():
            found.append("a table or the like" if shape is None else "×".join(map(str, shape)))
    contents = ", ".join(dict.fromkeys(found)) or "no data"
    raise ImageError(f"no image of one or three bands in it (found {contents}), or truncated before it")


def _unzip(file: BufferedReader) -> BytesIO:
    content = gzip.GzipFile(fileobj=file).read(_MAX_UNZIPPED + 1)
    if len(content) > _MAX_UNZIPPED:
        raise ImageError(f"more than {_MAX_UNZIPPED:,} bytes when decompressed; decompress it first")
    return BytesIO(content)


def stretch(bands: np.ndarray) -> np.ndarray:
    """Show fluxes as SDSS does, after Lupton et al. 2004, PASP 116, 133: faint arms and bright cores, true colours.

    The sky of each band is subtracted from it. The intensity I is the mean of the bands, in units of its noise, plus 1,
    so that black is one noise below the sky. All bands of a pixel are scaled by one factor, f(I)/I with

        f(I) = 25.5 · asinh(Q·I/S) / asinh(Q/10),  Q = 2.5,  S = 75,

    3.4 of 255 for one noise, 198 for a hundred. A pixel of which a band then exceeds 255 is scaled down, which keeps
    its colour. Sky and noise are those of sep, as SExtractor finds them in meshes of 64 × 64 pixels. Where the noise is
    so low that more than 1 % of the pixels exceed a hundred noises, as in pictures without noise, it is taken to be as
    high as makes it 1 %. So the picture does not depend on the unit of the fluxes.

    Args:
        bands: (1, H, W), grey, or (3, H, W) red, green, blue, all in one unit. Pixels that are not finite become sky.

    Returns:
        (H, W, 3) uint8.

    Raises:
        ImageError: no pixel is finite, or a package is not installed.
    """
    try:
        import sep
        from astropy.visualization import make_lupton_rgb
    except ImportError:
        raise ImageError('reading FITS needs astropy and sep; run: pip install "gzkern[astro]"') from None
    bands = np.ascontiguousarray(bands, np.float32)  # as sep takes them
    absent = ~(np.abs(bands) < _MOST)
    if absent.all():
        raise ImageError("none of its pixels is finite")

    signal = np.empty_like(bands)
    for band, without, out in zip(bands, absent, signal, strict=True):
        filled = np.where(without, 0, band)
        np.subtract(filled, sep.Background(filled, mask=without).globalback, out=out)
        out[without] = 0
    intensity = signal.mean(axis=0)
    in_noises = signal / _noise(sep.Background(intensity, mask=absent.any(axis=0)), intensity)
    shown = in_noises.clip(-1e6, 1e6) + 1
    return make_lupton_rgb(*np.broadcast_to(shown, (3, *intensity.shape)), stretch=_STRETCH, Q=_Q)


def _noise(background: Any, intensity: np.ndarray) -> float:
    noise = background.globalrms
    if noise == 1 and not background.rms().any():  # sep's value for no noise
        noise = 0.0
    noise = max(noise, np.percentile(intensity, 99) / _BRIGHT) or intensity.max() / _BRIGHT
    return noise if noise > 0 else 1.0
