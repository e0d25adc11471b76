"""Valid convolution (stride 1) with untied biases, ReLU and 2×2 max-pool on C,H,W,N arrays; ``kernels/conv2d_*.cu``.

Arrays are float32, codes uint8. Below the two operations stands one function a pass, which chooses among the kernels by
:func:`choose`; see ``conv2d_common`` for what ``epilogue`` and ``saved`` mean.

A pass has versions. Those of the ladder (naive to vectorised) take every filter, and compute in fp32. The others are
compiled for the sizes of a layer, and take the round ones: "specialised" in fp32, "mma" by tensor cores (mma.sync) and
"wgmma" by Hopper's warpgroup products in tf32 and fp32x3, three tf32 products that have float32's error. Forward,
"mma" has bf16 too, for prediction.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from types import ModuleType
from typing import Any

import numpy as np

from ...core.shapes import Conv2dSizes
from ...errors import InputError
from ...runtime.arrays import backend_of
from ...runtime.backend import Limits
from . import backward_data as conv2d_backward_data
from . import backward_data_mma as conv2d_backward_data_mma
from . import backward_data_specialised as conv2d_backward_data_specialised
from . import backward_data_wgmma as conv2d_backward_data_wgmma
from . import backward_weights as conv2d_backward_weights
from . import backward_weights_mma as conv2d_backward_weights_mma
from . import backward_weights_specialised as conv2d_backward_weights_specialised
from . import backward_weights_wgmma as conv2d_backward_weights_wgmma
from . import forward as conv2d_forward
from . import forward_mma as conv2d_forward_mma
from . import forward_specialised as conv2d_forward_specialised
from . import forward_wgmma as conv2d_forward_wgmma
from .backward_bias import backward_bias
from .epilogue import no_tile, require_gradient, require_inputs, sizes_of

PRECISIONS = ("fp32", "tf32", "fp32x3", "bf16")
"""Of the products; sums are float32."""

LADDERS: Mapping[str, ModuleType] = {
    "forward": conv2d_forward,
    "backward_data": conv2d_backward_data,
    "backward_weights": conv2d_backward_weights,
}
"""By pass, the kernels that take every filter."""

COMPILED: Mapping[str, Mapping[str, ModuleType]] = {
    "forward": {
        "specialised": conv2d_forward_specialised,
        "mma": conv2d_forward_mma,
        "wgmma": conv2d_forward_wgmma,
    },
    "backward_data": {
        "specialised": conv2d_backward_data_specialised,
        "mma": conv2d_backward_data_mma,
        "wgmma": conv2d_backward_data_wgmma,
    },
    "backward_weights": {
        "specialised": conv2d_backward_weights_specialised,
        "mma": conv2d_backward_weights_mma,
        "wgmma": conv2d_backward_weights_wgmma,
    },
}
"""By pass and version, from slow to fast, the kernels that are compiled for a layer."""


@dataclass(frozen=True)
class Choice:
    """A version, the precision in which it computes, and what it is compiled for: None for those of the ladder."""

    version: str
    precision: str
    tile: Any = None


def forward(
    x: Any, weight: Any, bias: Any, *, activate: bool = True, pool: bool = True, precision: str = "fp32"
) -> tuple[Any, Any]:
    """Convolution + bias (+ ReLU (+ 2×2 max-pool)).

    Args:
        x: (C, H, W, N).
        weight: (C, R, S, K).
        bias: (K, P, Q), P = H−R+1, Q = W−S+1.
        activate: apply ReLU.
        pool: max-pool after it; needs ``activate``.
        precision: of PRECISIONS; by "bf16" x, weight and y are uint16, the bits of bfloat16.

    Returns:
        y (K, P, Q, N) and None, or pooled y (K, ⌈P/2⌉, ⌈Q/2⌉, N) and its uint8 code.

    Raises:
        InputError: arrays that do not fit each other or the kernels.
    """
    if pool and not activate:
        raise InputError("conv2d: a pool without ReLU has no code byte; leave activate on, or pool apart")
    return convolve(x, weight, bias, "pool" if pool else "relu" if activate else "plain", precision=precision)


def backward(
    x: Any,
    weight: Any,
    y: Any,
    code: Any,
    gradient: Any,
    *,
    activate: bool = True,
    data: bool = True,
    precision: str = "fp32",
) -> tuple[Any, Any, Any]:
    """Gradients of :func:`forward`, from its inputs, its results and the gradient of y.

    Returns:
        dx (C, H, W, N), or None where ``data`` is false; dweight (C, R, S, K); dbias (K, P, Q).

    Raises:
        InputError: arrays that do not fit each other or the kernels.
    """
    epilogue = "pool" if code is not None else "relu" if activate else "plain"
    saved = {"pool": code, "relu": y, "plain": None}[epilogue]
    backend_of("conv2d", x=x, weight=weight)
    sizes = sizes_of(x, weight)
    require_gradient(sizes, epilogue, gradient, saved, x=x, weight=weight)
    dweight = backward_weights(x, gradient, saved, epilogue, sizes, precision=precision)
    dbias = backward_bias(gradient, saved, epilogue, sizes)
    dx = backward_data(weight, gradient, saved, epilogue, sizes, precision=precision) if data else None
    return dx, dweight, dbias


def convolve(
    x: Any, weight: Any, bias: Any, epilogue: str, version: str | None = None, precision: str = "fp32"
) -> tuple[Any, Any]:
    """:func:`forward` in one form, by one version; None takes the one that :func:`choose` finds.

    By bf16, which is for prediction, x, weight and y are uint16, the bits of bfloat16, and there is no code.
    """
    _require_precision("forward", precision)
    dtype = np.uint16 if precision == "bf16" else np.float32
    backend, sizes = require_inputs(x, weight, bias, epilogue, dtype)
    choice = choose("forward", sizes, epilogue, backend.limits, precision, version)
    if choice.tile is None:
        return conv2d_forward.convolve(x, weight, bias, epilogue, choice.version)
    module = COMPILED["forward"][choice.version]
    return module.convolve(x, weight, bias, epilogue, precision=choice.precision, tile=choice.tile)


def backward_data(
    weight: Any,
    gradient: Any,
    saved: Any,
    epilogue: str,
    sizes: Conv2dSizes,
    version: str | None = None,
    precision: str = "fp32",
) -> Any:
    """dx (C, H, W, N) from weight (C, R, S, K), the gradient of y and what its form keeps."""
    _require_precision("backward_data", precision)
    backend = require_gradient(sizes, epilogue, gradient, saved, weight=weight)
    choice = choose("backward_data", sizes, epilogue, backend.limits, precision, version)
    if choice.tile is None:
        return conv2d_backward_data.backward_data(weight, gradient, saved, epilogue, sizes, choice.version)
    module = COMPILED["backward_data"][choice.version]
    return module.backward_data(weight, gradient, saved, epilogue, sizes, precision=choice.precision, tile=choice.tile)


def backward_weights(
    x: Any,
    gradient: Any,
    saved: Any,
    epilogue: str,
    sizes: Conv2dSizes,
    version: str | None = None,
    precision: str = "fp32",
) -> Any:
    """dweight (C, R, S, K) from x (C, H, W, N), the gradient of y and what its form keeps."""
    _require_precision("backward_weights", precision)
    backend = require_gradient(sizes, epilogue, gradient, saved, x=x)
    choice = choose("backward_weights", sizes, epilogue, backend.limits, precision, version)
    if choice.tile is None:
        return conv2d_backward_weights.backward_weights(x, gradient, saved, epilogue, sizes, choice.version)
    module = COMPILED["backward_weights"][choice.version]
    return module.backward_weights(x, gradient, saved, epilogue, sizes, precision=choice.precision, tile=choice.tile)


@cache
def choose(
    pass_name: str,
    sizes: Conv2dSizes,
    epilogue: str,
    limits: Limits,
    precision: str = "fp32",
    version: str | None = None,
) -> Choice:
    """The newest version of a pass that takes the sizes, with its first tile by estimate; or the one that is asked for.

    "wgmma" is passed over where its blocks would not be filled, or its sums take long to add up.

    Args:
        pass_name: "forward", "backward_data" or "backward_weights".
        sizes: of the layer.
        epilogue: "plain", "relu" or "pool".
        limits: of the device.
        precision: of PRECISIONS. What no kernel of tf32 or fp32x3 takes is computed in fp32, which is as exact.
        version: None, or one of those.

    Raises:
        InputError: no such precision or version, or it does not take these sizes.
    """
    if pass_name not in COMPILED:
        raise InputError(f"conv2d: pass is {pass_name!r}, expected {' or '.join(COMPILED)}")
    compiled = COMPILED[pass_name]
    _require_precision(pass_name, precision)
    versions = [*LADDERS[pass_name].VERSIONS] if precision == "fp32" else []
    versions += [name for name, module in compiled.items() if precision in module.KERNELS]
    if version is not None and version not in versions:
        raise InputError(
            f"conv2d: version of {pass_name} in {precision} is {version!r}, expected {' or '.join(versions)}"
        )
    for name in reversed([name for name in versions if name in compiled and version in (None, name)]):
        tile = compiled[name].choose_tile(sizes, epilogue, limits, precision)
        if tile is not None and (
            version == name or name != "wgmma" or compiled[name].pays(sizes, epilogue, tile, limits)
        ):
            return Choice(name, precision, tile)
        if version == name or precision == "bf16":
            raise no_tile(sizes, name, compiled[name].NEEDS)
    if precision != "fp32":
        return choose(pass_name, sizes, epilogue, limits)
    return Choice(LADDERS[pass_name].choose_version(sizes, version), precision)


def precisions_of(pass_name: str) -> list[str]:
    """Those that a pass can be asked to compute in."""
    modules = COMPILED[pass_name].values()
    return [each for each in PRECISIONS if each == "fp32" or any(each in module.KERNELS for module in modules)]


def _require_precision(pass_name: str, precision: str) -> None:
    if precision not in (offered := precisions_of(pass_name)):
        raise InputError(f"conv2d: precision of {pass_name} is {precision!r}, expected {' or '.join(offered)}")
