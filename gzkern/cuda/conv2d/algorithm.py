"""An algorithm of a convolution's pass: a kernel that is compiled for a layer, its tiles and their choice."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ...core.shapes import Conv2dSizes
from ...errors import InputError
from ...runtime.backend import Limits
from ...runtime.kernel import Kernel


@dataclass(frozen=True)
class Problem:
    """A problem for a kernel: the extents of a layer, its epilogue, and the precision of the products."""

    sizes: Conv2dSizes
    epilogue: str
    precision: str


Tiles = Callable[[Conv2dSizes, str, Limits, str], list[Any]]
"""All tiles that fit (sizes, epilogue, limits, precision), from the least estimated time on."""

Condition = Callable[[Any, Conv2dSizes, str, Limits, str], bool]
"""A condition on (tile, sizes, epilogue, limits, precision)."""


def _always(tile: Any, sizes: Conv2dSizes, epilogue: str, limits: Limits, precision: str) -> bool:
    return True


@dataclass(frozen=True)
class Algorithm:
    """One way to compute a pass.

    Attributes:
        name: "specialised" (fp32), "mma" (tensor cores) or "wgmma" (Hopper's warpgroup products).
        kernels: by precision, to be compiled for a tile: a dataclass of the template's arguments.
        needs: the sizes that it takes, for a message.
        tiles: lists the tiles that fit a layer, the cheapest first.
        takes: whether a tile computes a layer.
        run: ``run(backend, kernel, tile, problem, *arrays)``, with the kernel of the tile.
        pays: whether a tile is worth choosing before those of slower algorithms.
    """

    name: str
    kernels: Mapping[str, Kernel]
    needs: str
    tiles: Tiles
    takes: Condition
    run: Callable[..., Any]
    pays: Condition = _always

    def choose_tile(self, sizes: Conv2dSizes, epilogue: str, limits: Limits, precision: str) -> Any:
        """The tile of the least estimated time; None where no tile fits."""
        return next(iter(self.tiles(sizes, epilogue, limits, precision)), None)


@dataclass(frozen=True)
class Ladder:
    """The versions of a pass that take every filter, each a step faster than the one before it.

    Attributes:
        versions: kernels by name, from slow to fast.
        choose: ``choose(sizes, version)``: the version asked for, or the fastest that fits the sizes for None.
        run: ``run(backend, version, problem, *arrays)``.
    """

    versions: Mapping[str, Kernel]
    choose: Callable[[Conv2dSizes, str | None], str]
    run: Callable[..., Any]


def version_that_fits(version: str | None, fits: Mapping[str, bool], needs: str) -> str:
    """The version asked for, or the last of those that fit for None.

    Raises:
        InputError: it does not fit; says what the versions need.
    """
    fitting = [name for name in fits if fits[name]]
    if version is None:
        return fitting[-1]
    if version not in fitting:
        raise InputError(f"conv2d: version is {version!r}, expected {' or '.join(fitting)} for these sizes; {needs}")
    return version
