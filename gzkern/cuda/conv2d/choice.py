"""The choice among the kernels of a convolution's pass.

A pass has a ladder of versions (naive to vectorised) that take every filter and compute in fp32, and algorithms that
are compiled for the sizes of a layer and take the round ones: "specialised" in fp32, "mma" by tensor cores (mma.sync)
and "wgmma" by Hopper's warpgroup products in tf32 and fp32x3, three tf32 products that have float32's error. Forward,
"mma" has bf16 too, for prediction.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from ...core.shapes import Conv2dSizes
from ...errors import InputError
from ...runtime.backend import Limits
from . import (
    backward_data,
    backward_data_mma,
    backward_data_specialised,
    backward_data_wgmma,
    backward_weights,
    backward_weights_mma,
    backward_weights_specialised,
    backward_weights_wgmma,
    forward,
    forward_mma,
    forward_specialised,
    forward_wgmma,
)
from .algorithm import Algorithm, Ladder

PRECISIONS = ("fp32", "tf32", "fp32x3", "bf16")
"""Precisions of the products; sums are float32."""

LADDERS: Mapping[str, Ladder] = {
    "forward": forward.LADDER,
    "backward_data": backward_data.LADDER,
    "backward_weights": backward_weights.LADDER,
}
"""The versions that take every filter, by pass."""

ALGORITHMS: Mapping[str, Mapping[str, Algorithm]] = {
    pass_name: {module.ALGORITHM.name: module.ALGORITHM for module in modules}
    for pass_name, modules in {
        "forward": (forward_specialised, forward_mma, forward_wgmma),
        "backward_data": (backward_data_specialised, backward_data_mma, backward_data_wgmma),
        "backward_weights": (backward_weights_specialised, backward_weights_mma, backward_weights_wgmma),
    }.items()
}
"""The algorithms by pass and name, from slow to fast."""


@dataclass(frozen=True)
class Choice:
    """A version of the ladder, or an algorithm with its tile; and the precision in which it computes."""

    version: str
    precision: str
    tile: Any = None


@cache
def choose(
    pass_name: str,
    sizes: Conv2dSizes,
    epilogue: str,
    limits: Limits,
    precision: str = "fp32",
    version: str | None = None,
) -> Choice:
    """The fastest kernel of a pass that takes the sizes, with its first tile by estimate; or the one asked for.

    An algorithm whose tile does not pay is passed over: "wgmma" where its blocks would not be filled, or its sums take
    long to add up.

    Args:
        pass_name: "forward", "backward_data" or "backward_weights".
        sizes: of the layer.
        epilogue: "plain", "relu" or "pool".
        limits: of the device.
        precision: of PRECISIONS. Sizes that no kernel of tf32 or fp32x3 takes are computed in fp32, which is as exact.
        version: None, or a version of the ladder, or an algorithm.

    Raises:
        InputError: no such precision or version, or it does not take these sizes.
    """
    if pass_name not in ALGORITHMS:
        raise InputError(f"conv2d: pass is {pass_name!r}, expected {' or '.join(ALGORITHMS)}")
    ladder, algorithms = LADDERS[pass_name], ALGORITHMS[pass_name]
    require_precision(pass_name, precision)
    offered = {name: each for name, each in algorithms.items() if precision in each.kernels}
    names = [*(ladder.versions if precision == "fp32" else ()), *offered]
    if version is not None and version not in names:
        raise InputError(f"conv2d: version of {pass_name} in {precision} is {version!r}, expected {' or '.join(names)}")
    for name, algorithm in reversed(offered.items()):
        if version not in (None, name):
            continue
        tile = algorithm.choose_tile(sizes, epilogue, limits, precision)
        if tile is not None and (version == name or algorithm.pays(tile, sizes, epilogue, limits, precision)):
            return Choice(name, precision, tile)
        if version == name or precision == "bf16":
            raise no_tile(algorithm, sizes)
    if precision != "fp32":
        return choose(pass_name, sizes, epilogue, limits)
    return Choice(ladder.choose(sizes, version), precision)


def choose_by_tile(
    pass_name: str, sizes: Conv2dSizes, epilogue: str, limits: Limits, precision: str, version: str | None, tile: Any
) -> Choice:
    """An algorithm with a tile that is given.

    Raises:
        InputError: the version is no algorithm of this precision, or the tile does not compute this layer.
    """
    offered = {name: each for name, each in ALGORITHMS[pass_name].items() if precision in each.kernels}
    if version not in offered:
        raise InputError(
            f"conv2d: version is {version!r}, expected {' or '.join(offered) or 'none'}: a tile is one of an algorithm "
            f"in {precision}"
        )
    algorithm = offered[version]
    if not algorithm.takes(tile, sizes, epilogue, limits, precision):
        raise no_tile(algorithm, sizes)
    return Choice(version, precision, tile)


def precisions_of(pass_name: str) -> list[str]:
    """The precisions that a pass can be asked to compute in."""
    algorithms = ALGORITHMS[pass_name].values()
    return [each for each in PRECISIONS if each == "fp32" or any(each in algorithm.kernels for algorithm in algorithms)]


def require_precision(pass_name: str, precision: str) -> None:
    """Refuse a precision that a pass does not have.

    Raises:
        InputError: names those that it has.
    """
    if precision not in (offered := precisions_of(pass_name)):
        raise InputError(f"conv2d: precision of {pass_name} is {precision!r}, expected {' or '.join(offered)}")


def no_tile(algorithm: Algorithm, sizes: Conv2dSizes) -> InputError:
    """The error where an algorithm does not take these sizes."""
    return InputError(
        f"conv2d: version {algorithm.name!r} takes {algorithm.needs}, got x {sizes.x} and weight {sizes.weight}; leave "
        "version out"
    )
