"""Decoding image files to RGB arrays, with a reason for every file that is refused."""

from __future__ import annotations

import stat
from functools import cache, partial
from io import BufferedReader
from pathlib import Path
from types import ModuleType

import numpy as np
from PIL import Image, UnidentifiedImageError

from ..core.silence import silence
from ..errors import ImageError
from . import fits

SUFFIXES = (".jpg", ".jpeg", ".png", ".fits", ".fit", ".fits.gz")
"""Endings, in lower case, of the files that are taken for images."""

_JPEG_END = b"\xff\xd9"
_MAX_PIXELS = 2**26  # more is no cut-out of a galaxy, but a file made to fill the memory


def is_image_name(path: Path) -> bool:
    """Return True for the file name of an image: a known ending in any case, and not a hidden file."""
    return path.name.lower().endswith(SUFFIXES) and not path.name.startswith(".")


def image_id(path: Path) -> str:
    """The id of an image file: its name without the ending, which is one of ``SUFFIXES``."""
    return next(path.name[: -len(suffix)] for suffix in SUFFIXES if path.name.lower().endswith(suffix))


def decode(path: str | Path, *, smallest: int) -> np.ndarray:
    """Read a JPEG, PNG or FITS file as (H, W, 3) uint8 RGB; the content says which it is.

    Greyscale is repeated over the three channels, 16-bit grey is scaled to 8 bits, alpha is dropped, palette
    and CMYK are converted. An EXIF orientation is ignored: the sky has no upright. FITS is read by
    ``fits.read_bands`` and shown by ``fits.stretch``. Any number of threads may decode at a time.

    Args:
        path: the file.
        smallest: the least height and width accepted, in pixels.

    Raises:
        ImageError: the file cannot be used; the message is the reason, without the path.

    >>> import glob
    >>> path = sorted(glob.glob("demo/galaxies/images_training_rev1/*.jpg"))[0]
    >>> decode(path, smallest=207).shape
    (424, 424, 3)
    """
    path = Path(path)
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise ImageError("is a directory")
        if not stat.S_ISREG(status.st_mode):
            raise ImageError("not a regular file")
        if status.st_size == 0:
            raise ImageError("empty file")
        # The open file is passed on: given a path, Pillow would memory-map it.
        with path.open("rb") as file, silence():
            if file.peek(6).startswith(fits.STARTS):
                bands = fits.read_bands(file, status.st_size, partial(_require_size, smallest))
                return fits.stretch(bands)
            return _decode_picture(file, status.st_size, smallest)
    except FileNotFoundError:
        raise ImageError("no such file") from None
    except OSError as error:
        raise ImageError((error.strerror or str(error)).lower()) from None


def _require_size(smallest: int, width: int, height: int) -> None:
    if width * height > _MAX_PIXELS:
        raise ImageError(f"{width}×{height} pixels, more than the {_MAX_PIXELS:,} that are decoded")
    if min(width, height) < smallest:
        raise ImageError(f"{width}×{height} pixels, smaller than the {smallest}-pixel crop")


def _decode_picture(file: BufferedReader, size: int, smallest: int) -> np.ndarray:
    """Decode the whole of an open JPEG or PNG file of ``size`` bytes, after a look at its header."""
    try:
        image = Image.open(file, formats=("JPEG", "PNG"))
        _require_size(smallest, *image.size)
        if image.format == "PNG":
            return _to_rgb(image)
        file.seek(0)
        content = file.read()
        ended = _JPEG_END in content
        if ended and image.mode == "RGB" and (pixels := _decode_sound_jpeg(content)) is not None:
            return pixels
        pixels = _to_rgb(image)
        # Pillow lets a missing end marker pass where the decoder already had all of the last rows.
        if not ended:
            raise ImageError(f"truncated after {size:,} bytes")
        return pixels
    except (ImageError, MemoryError):
        raise
    except UnidentifiedImageError:
        raise ImageError("not an image (expected JPEG, PNG or FITS)") from None
    except Image.DecompressionBombError:
        raise ImageError(f"more than the {_MAX_PIXELS:,} pixels that are decoded") from None
    except Exception as error:  # Pillow's parsers raise almost anything on a damaged file
        if "truncated" in str(error).lower():
            raise ImageError(f"truncated after {size:,} bytes") from None
        raise ImageError(f"damaged ({error})") from None


def _decode_sound_jpeg(content: bytes) -> np.ndarray | None:
    """The pixels that Pillow would decode, sooner; None where the file is not sound or simplejpeg is not installed."""
    simplejpeg = _simplejpeg()
    if simplejpeg is None:
        return None
    try:
        return simplejpeg.decode_jpeg(content)
    except ValueError:
        return None  # Pillow knows the reason, or reads it all the same


@cache
def _simplejpeg() -> ModuleType | None:
    try:
        import simplejpeg
    except ImportError:
        return None
    return simplejpeg


def _to_rgb(image: Image.Image) -> np.ndarray:
    image.load()
    if image.mode.startswith("I;16"):
        # Pillow's own conversion clips 16-bit grey at 255 in place of scaling it.
        grey = (np.asarray(image).astype(np.uint32) * 255 + 32767) // 65535
        return np.repeat(grey.astype(np.uint8)[:, :, np.newaxis], 3, axis=2)
    if image.mode == "P":
        image = image.convert("RGBA")  # a palette with transparency loses it only by this detour
    return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))
