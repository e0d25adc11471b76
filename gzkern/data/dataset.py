"""Data sets: images and labels, and their division into training and validation."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError
from .quarantine import Quarantined


@dataclass(frozen=True, eq=False)
class Dataset:
    """Images and labels in the order of the label file.

    Attributes:
        ids: one text an image.
        images: (n, H, W, 3) uint8; an array, a read-only map of a file, or an ``EncodedImages``.
        labels: (n, answers) float32 in [0, 1]; None where there are none.
        columns: the name of each column of ``labels``.
        whole_size: (height, width) of the images before a pack kept their centre alone; else that of ``images``.
        quarantined: what was left out when the files were read.
        path: the folder of the pack; None for a folder of images.
    """

    ids: tuple[str, ...] = field(repr=False)
    images: Any = field(repr=False)
    labels: np.ndarray | None = field(repr=False)
    columns: tuple[str, ...]
    whole_size: tuple[int, int]
    quarantined: tuple[Quarantined, ...] = field(default=(), repr=False)
    path: Path | None = None

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def fingerprint(self) -> str:
        """Hexadecimal SHA-256 over ids, labels and whole size: the same for a folder and for all packs of it."""
        shape = (len(self), *self.whole_size, 3)
        header = {"ids": self.ids, "columns": self.columns, "shape": shape}
        digest = hashlib.sha256(json.dumps(header).encode())
        if self.labels is not None:
            digest.update(np.ascontiguousarray(self.labels, "<f4").tobytes())
        return digest.hexdigest()


def split(count: int, validation: float) -> tuple[range, range]:
    """Divide ``count`` rows into those to train on and, after them, the ``validation`` part held out.

    The fraction is rounded down to whole images, so that a tenth of the Galaxy Challenge's 61,578 is 6,157.

    Raises:
        InputError: the fraction is not in [0, 1), or leaves no image on one side (0 holds out none).
    """
    if not 0 <= validation < 1:
        raise InputError(f"data.validation = {validation}: expected a fraction from 0 up to, not including, 1")
    held_out = math.floor(count * validation + 1e-9)  # 0.29 · 100 is 28.999…96
    if validation > 0 and not 0 < held_out < count:
        raise InputError(
            f"data.validation = {validation} of {count} images holds out {held_out}, expected at least one "
            "image on either side; change the fraction or add images"
        )
    return range(count - held_out), range(count - held_out, count)
