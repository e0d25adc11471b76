"""Images that stay in their files and are decoded as they are used."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import GzkernError, ImageError
from .images import decode
from .stamp import Stamp, stamp_of


class EncodedImages:
    """Image files of one size, indexed like an (n, H, W, 3) uint8 array; each index decodes, in the calling thread.

    Any number of threads may index at a time.

    Args:
        paths: n files.
        stamps: of the files when they were checked.
        shape: (H, W, 3) of each.

    Attributes:
        shape: (n, H, W, 3).
        nbytes: of all images, as if decoded.
    """

    def __init__(self, paths: Sequence[Path], stamps: Sequence[Stamp], shape: tuple[int, ...]):
        self._paths, self._stamps = paths, stamps
        self.shape = (len(paths), *shape)
        self.nbytes = math.prod(self.shape)

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, indices: Any) -> np.ndarray:
        """(B, H, W, 3) uint8 for B indices or a slice, (H, W, 3) for one index.

        Raises:
            IndexError: there is no such image.
            GzkernError: a file is gone, was changed since it was checked, or cannot be read.
        """
        rows = np.arange(len(self))[indices]
        if rows.ndim == 0:
            return self._decode(int(rows))
        images = np.empty((len(rows), *self.shape[1:]), np.uint8)
        for image, row in zip(images, rows.tolist(), strict=True):
            image[...] = self._decode(row)
        return images

    def _decode(self, row: int) -> np.ndarray:
        path = self._paths[row]
        try:
            image = decode(path, smallest=1)
        except ImageError as error:
            raise GzkernError(f"{path}: {error}, but it could be read when the data set was opened") from None
        if stamp_of(path) != self._stamps[row]:
            raise GzkernError(f"{path}: was changed since the data set was opened; start again")
        return image
