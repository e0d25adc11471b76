"""Launches of the kernels that share dense/mma.cuh: blocks of sums, of a part of the terms."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ...errors import InputError
from ...runtime.backend import Limits
from ...runtime.kernel import LONGEST_CHAIN, Geometry, Kernel, ceil_div, kernel

NEEDS = "multiples of 4 (bf16: 8) outputs and images"

PRECISIONS = ("fp32", "tf32", "fp32x3")
"""Precisions of both passes; the forward pass has bf16, too."""

LEAST_IMAGES = 32
"""From which on tensor cores pay: with fewer, a product waits for the weights alone."""

LONG = 256
"""The longer extent of a block, along inputs or outputs."""

Kernels = Mapping[int, Kernel]
"""Those of a precision, by the images of their blocks."""

_IMAGES = (64, 128)
_THREADS = 256
_DEPTH = 64  # bytes of a stage along the terms
_PADDING = 16  # bytes behind each line of shared memory
_LEAST_TERMS, _TERMS_AT_ONCE = 128, 32  # of a part; of a stage of the narrowest format


def kernels(stem: str, precisions: Iterable[str]) -> dict[str, Kernels]:
    """Those of kernels/<stem>.cu, by precision."""
    return {each: {images: kernel(stem, f"{each}_{images}") for images in _IMAGES} for each in precisions}


def images_of_a_block(B: int) -> int:
    """The fewest that are all, or else the most, for which fewer blocks read the weights."""
    return next((images for images in _IMAGES if images >= B), _IMAGES[-1])


def takes(outputs: int, B: int, precision: str) -> bool:
    """Tell whether rows of weight and of x can be copied 16 bytes at a time."""
    multiple = 8 if precision == "bf16" else 4
    return outputs % multiple == B % multiple == 0


def tensor_cores_pay(precision: str, outputs: int, B: int) -> bool:
    """Tell whether there are kernels of tensor cores for a training step's precision and sizes, and work for them."""
    return precision in ("tf32", "fp32x3") and B >= LEAST_IMAGES and takes(outputs, B, precision)


def require_sizes(x: Any, outputs: int, precision: str) -> None:
    """Refuse sizes that no kernel of a precision takes.

    Raises:
        InputError: names what they take.
    """
    inputs, B = x.shape
    if not takes(outputs, B, precision):
        raise InputError(
            f"dense: {precision} takes {NEEDS}, got x {(inputs, B)} and weight {(inputs, outputs)}; take fp32"
        )


@dataclass(frozen=True)
class Plan:
    """The parts and blocks of a product.

    Attributes:
        grid: blocks along both extents of the result, and parts.
        part: terms of a part.
    """

    grid: tuple[int, int, int]
    part: int

    @property
    def parts(self) -> int:
        """Parts of the sum."""
        return self.grid[2]

    def launch(self, shared: int) -> Geometry:
        """Launch of blocks with so many bytes of shared memory."""
        return Geometry(self.grid, (_THREADS,), shared)


def plan(terms: int, sums: tuple[int, int], block: tuple[int, int], limits: Limits) -> Plan:
    """Blocks for a result of these extents: one a multiprocessor where that leaves parts of enough terms.

    A second would double the parts to write and add up; the stages of one already keep memory busy, which small batches
    wait for.

    Args:
        terms: of each sum.
        sums: extents of the result.
        block: those of a block.
        limits: of the device.
    """
    tiles = ceil_div(sums[0], block[0]), ceil_div(sums[1], block[1])
    parts = max(limits.multiprocessors // max(tiles[0] * tiles[1], 1), ceil_div(terms, LONGEST_CHAIN), 1)
    part = ceil_div(max(ceil_div(terms, parts), _LEAST_TERMS), _TERMS_AT_ONCE) * _TERMS_AT_ONCE
    return Plan((*tiles, max(ceil_div(terms, part), 1)), part)


def lines_of_sums(extent: int, itemsize: int = 4) -> int:
    """Bytes of an operand's stage, a line a term."""
    return _DEPTH // itemsize * (extent * itemsize + _PADDING)


def lines_of_terms(extent: int) -> int:
    """Bytes of an operand's stage, a line a row or column."""
    return extent * (_DEPTH + _PADDING)
