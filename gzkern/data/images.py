"""Decoding image files to RGB arrays, with a reason for every file that is refused."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, UnidentifiedImageError

from ..errors import ImageError

SUFFIXES = (".jpg", ".jpeg", ".png")
"""Endings, in lower case, of the files that are taken for images."""

_JPEG_END = b"\xff\xd9"
_MAX_PIXELS = 2**26  # more is no cut-out of a galaxy, but a file made to fill the memory


def is_image_name(path: Path) -> bool:
    """Whether a file name is an image's: a known suffix in any case, and not a hidden file."""
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")


def decode(path: str | Path, *, smallest: int) -> np.ndarray:
    """Read a JPEG or PNG file as (H, W, 3) uint8 RGB.

    Greyscale is repeated over the three channels, 16-bit grey is scaled to 8 bits, alpha is dropped, palette
    and CMYK are converted. An EXIF orientation is ignored: the sky has no upright.

    Args:
        path: the file.
        smallest: the least height and width accepted, in pixels.

    Raises:
        ImageError: the file cannot be used; the message is the reason, without the path.
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
        with path.open("rb") as file:
            image = _load(file, status.st_size, smallest)
    except FileNotFoundError:
        raise ImageError("no such file") from None
    except OSError as error:
        raise ImageError((error.strerror or str(error)).lower()) from None
    return _to_rgb(image)


def _load(file: BinaryIO, size: int, smallest: int) -> Image.Image:
    """Decode the whole of an open file of ``size`` bytes, after a look at its header."""
    try:
        image = Image.open(file, formats=("JPEG", "PNG"))
        width, height = image.size
        if width * height > _MAX_PIXELS:
            raise ImageError(f"{width}×{height} pixels, more than the {_MAX_PIXELS:,} that are decoded")
        if min(width, height) < smallest:
            raise ImageError(f"{width}×{height} pixels, smaller than the {smallest}-pixel crop")
        image.load()
        file.seek(0)
        # Pillow lets a missing end marker pass where the decoder already had all of the last rows.
        if image.format != "PNG" and _JPEG_END not in file.read():
            raise ImageError(f"truncated after {size:,} bytes")
    except (ImageError, MemoryError):
        raise
    except UnidentifiedImageError:
        raise ImageError("not an image (expected JPEG or PNG)") from None
    except Image.DecompressionBombError:
        raise ImageError(f"more than the {_MAX_PIXELS:,} pixels that are decoded") from None
    except Exception as error:  # Pillow's parsers raise almost anything on a damaged file
        if "truncated" in str(error).lower():
            raise ImageError(f"truncated after {size:,} bytes") from None
        raise ImageError(f"damaged ({error})") from None
    return image


def _to_rgb(image: Image.Image) -> np.ndarray:
    if image.mode.startswith("I;16"):
        # Pillow's own conversion clips 16-bit grey at 255 in place of scaling it.
        grey = (np.asarray(image).astype(np.uint32) * 255 + 32767) // 65535
        return np.repeat(grey.astype(np.uint8)[:, :, np.newaxis], 3, axis=2)
    if image.mode == "P":
        image = image.convert("RGBA")  # a palette with transparency loses it only by this detour
    return np.asarray(image.convert("RGB"))
