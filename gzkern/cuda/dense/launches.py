"""Launches of a dense layer's kernels: activations as numbers, the gradient that they read, parts of a sum, blocks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ...core import arguments
from ...runtime.arrays import require_size
from ...runtime.backend import Backend
from ...runtime.kernel import LONGEST_CHAIN, Geometry, ceil_div

ACTIVATIONS = {name: np.uint32(number) for number, name in enumerate(arguments.ACTIVATIONS)}
"""The numbers of the activations, as in include/activation.cuh."""

TERMS_AT_ONCE = 16
"""Terms of a sum that a tile takes at once."""

_THREADS = 128  # of a tile's block
_BLOCKS = 512  # keep any GPU busy
_LEAST_TERMS = 128  # of a part
_MOST_GROUPS = 8  # of threads that share the parts of a sum; as in dense/parts.cuh


@dataclass(frozen=True)
class Gradient:
    """The gradient of y, and what kernels need to rebuild that of z, before activation and dropout.

    Attributes:
        of_y: (O, B), by "maxout" (O/2, B).
        saved: y by "relu", the code by "maxout"; by "linear" any array, which is not read.
        activation: "linear", "relu" or "maxout".
        scale: that of the mask by which y was dropped, 1 without.
    """

    of_y: Any
    saved: Any
    activation: str
    scale: float

    @property
    def outputs(self) -> int:
        """Rows of z."""
        return self.of_y.shape[0] * (2 if self.activation == "maxout" else 1)

    @property
    def images(self) -> int:
        """Columns."""
        return self.of_y.shape[1]

    @property
    def sources(self) -> tuple[Any, Any]:
        """The two arrays that kernels read."""
        return self.of_y, self.saved

    @property
    def after(self) -> tuple[np.uint32, np.float32]:
        """The activation and the scale, as kernels take them."""
        return ACTIVATIONS[self.activation], np.float32(self.scale)


def empty(backend: Backend, name: str, shape: tuple[int, ...]) -> Any:
    """Allocate a result.

    Raises:
        InputError: it would have too many elements for the kernels.
    """
    require_size("dense", name, shape)
    return backend.empty(shape)


def four_columns(shape: tuple[int, int], parts: int) -> Geometry:
    """Blocks that add up parts of a result (rows, B): in each group of threads one for four columns of a row.

    See dense/parts.cuh.
    """
    rows, B = shape
    threads = 4, 16, min(max(parts, 1), _MOST_GROUPS)
    return Geometry((ceil_div(rows, threads[1]), ceil_div(B, 4 * threads[0])), threads)


def parts_of(
    terms: int, rows: int, columns: int, tile: tuple[int, int], at_once: int = TERMS_AT_ONCE
) -> tuple[int, int]:
    """Terms of a part, and parts, of each of rows × columns sums: enough blocks for a GPU, no long chain."""
    tiles = ceil_div(rows, tile[0]) * ceil_div(columns, tile[1])
    part = min(max(ceil_div(terms * tiles, _BLOCKS), _LEAST_TERMS), LONGEST_CHAIN)
    part = ceil_div(part, at_once) * at_once
    return part, max(ceil_div(terms, part), 1)


def geometry(version: str, rows: int, columns: int, parts: int, tile: tuple[int, int]) -> Geometry:
    """The launch of "naive", one thread a sum, or of the other versions, one block a tile."""
    if version == "naive":
        return Geometry((ceil_div(rows * columns, 256), parts), (256,))
    return Geometry((ceil_div(rows, tile[0]), ceil_div(columns, tile[1]), parts), (_THREADS,))
