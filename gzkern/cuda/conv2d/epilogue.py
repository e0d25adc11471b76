"""What the passes of a convolution share: forms, sizes and checks.

The epilogue of a convolution is "plain", "relu" or "pool"; ``saved`` is what its backward passes need of the forward
pass: y
by "relu", the code by "pool", None by "plain".
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ...core import arguments as check
from ...core.shapes import Conv2dSizes
from ...errors import InputError
from ...runtime.arrays import backend_of
from ...runtime.backend import Backend
from ...runtime.kernel import extents

EPILOGUES = {"plain": np.uint32(0), "relu": np.uint32(1), "pool": np.uint32(2)}
"""As in conv2d/epilogue.cuh."""

LONGEST_CHAIN = 4096
"""Additions one after the other."""

_SAVED = {"relu": "y", "pool": "code"}


def sizes_of(x: Any, weight: Any) -> Conv2dSizes:
    """The sizes of a convolution of x (C, H, W, N) with weight (C, R, S, K).

    Raises:
        InputError: arrays of other shapes, or filters larger than the image.
    """
    check.shape("conv2d", "x", x, (None, None, None, None))
    check.shape("conv2d", "weight", weight, (x.shape[0], None, None, None))
    sizes = Conv2dSizes(*x.shape, *weight.shape[1:])
    if sizes.R > sizes.H or sizes.S > sizes.W or min(sizes.R, sizes.S) < 1:
        raise InputError(
            f"conv2d: weight has filters of {sizes.R}×{sizes.S}, expected at least 1×1 and at most the image of "
            f"{sizes.H}×{sizes.W}"
        )
    return sizes


def arguments(sizes: Conv2dSizes) -> tuple[np.uint32, ...]:
    """C, H, W, N, R, S, K as kernels take them."""
    return extents(sizes.C, sizes.H, sizes.W, sizes.N, sizes.R, sizes.S, sizes.K)


def require_epilogue(epilogue: str) -> None:
    """Refuse a form that there is not.

    Raises:
        InputError: names those that there are.
    """
    if epilogue not in EPILOGUES:
        raise InputError(f"conv2d: epilogue is {epilogue!r}, expected {' or '.join(EPILOGUES)}")


def require_inputs(
    x: Any, weight: Any, bias: Any, epilogue: str, dtype: Any = np.float32
) -> tuple[Backend, Conv2dSizes]:
    """Check what a forward pass reads; its device and sizes. ``dtype`` is that of x and weight.

    Raises:
        InputError: arrays that do not fit each other or the kernels.
    """
    backend = backend_of("conv2d", {"x": dtype, "weight": dtype}, x=x, weight=weight, bias=bias)
    sizes = sizes_of(x, weight)
    check.shape("conv2d", "bias", bias, (sizes.K, sizes.P, sizes.Q))
    require_epilogue(epilogue)
    return backend, sizes


def require_gradient(sizes: Conv2dSizes, epilogue: str, gradient: Any, saved: Any, **inputs: Any) -> Backend:
    """Check what a backward pass reads, ``inputs`` being x, weight, both or neither; its device.

    Raises:
        InputError: arrays that do not fit each other or the kernels.
    """
    require_epilogue(epilogue)
    arrays = {**inputs, "gradient": gradient}
    if epilogue in _SAVED:
        arrays[_SAVED[epilogue]] = saved
    backend = backend_of("conv2d", {"code": np.uint8}, **arrays)
    shapes = {"x": sizes.x, "weight": sizes.weight}
    for name, array in arrays.items():
        check.shape("conv2d", name, array, shapes.get(name, sizes.y(epilogue)))
    return backend


def dummy_pointer(saved: Any, gradient: Any) -> Any:
    """A kernel takes an array, also where it will not read it."""
    return gradient if saved is None else saved


def no_tile(sizes: Conv2dSizes, version: str, needs: str) -> InputError:
    """What to raise where a version does not take these sizes."""
    return InputError(
        f"conv2d: version {version!r} takes {needs}, got x {sizes.x} and weight {sizes.weight}; leave version out"
    )


def chosen(version: str | None, fits: dict[str, bool], needs: str) -> str:
    """The version that is asked for; None: the last of those that fit.

    Raises:
        InputError: it does not fit, with what the versions need.
    """
    fitting = [name for name in fits if fits[name]]
    if version is None:
        return fitting[-1]
    if version not in fitting:
        raise InputError(f"conv2d: version is {version!r}, expected {' or '.join(fitting)} for these sizes; {needs}")
    return version
