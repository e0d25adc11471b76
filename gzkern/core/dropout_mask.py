"""Which elements dropout drops: a pure function of seed, step and layer, the same on every device."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import InputError


@dataclass(frozen=True)
class DropoutMask:
    """Drop each element with ``probability``, 0 ≤ probability < 1, by the random words of (seed, step, layer).

    Element i takes word i mod 4 of Philox 4x32-10 (Salmon et al. 2011, Random123) with counter
    (i div 4, layer, step low, step high) and key (seed low, seed high). It is dropped where that word is below
    ``threshold``; what is kept is multiplied by ``scale``.

    ``step`` is a number, or an int64 array (1,) of the device, read when the mask is drawn.
    """

    probability: float
    seed: int
    step: Any
    layer: int

    def __post_init__(self) -> None:
        if not 0 <= self.probability < 1:
            raise InputError(f"dropout: probability is {self.probability}, expected 0 up to below 1")

    @property
    def threshold(self) -> np.uint32:
        """probability · 2³²."""
        return np.uint32(min(round(self.probability * 2**32), 2**32 - 1))

    @property
    def scale(self) -> np.float32:
        """1 / (1 − probability), which keeps the mean (Srivastava et al. 2014)."""
        return np.float32(1 / (1 - self.probability))

    @property
    def key(self) -> tuple[np.uint32, np.uint32]:
        """The generator's key: the two halves of the seed."""
        return np.uint32(self.seed & 0xFFFFFFFF), np.uint32(self.seed >> 32)

    @property
    def number(self) -> int:
        """The step as a number, where it is one or lies in the memory of the CPU."""
        return self.step if isinstance(self.step, int) else int(self.step[0])

    @property
    def counter(self) -> tuple[np.uint32, np.uint32, np.uint32]:
        """The last three words of the generator's counter: layer and the two halves of the step."""
        return np.uint32(self.layer), np.uint32(self.number & 0xFFFFFFFF), np.uint32(self.number >> 32)
