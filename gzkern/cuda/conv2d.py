"""Valid convolution (stride 1) with untied biases, ReLU and 2×2 max-pool on C,H,W,N arrays; ``kernels/conv2d_*.cu``.

Arrays are float32, codes uint8. Below the two operations stands one function a kernel, or a product kernel and the one
that adds up its parts. The form of a convolution is "plain", "relu" or "pool"; ``kept`` is what its backward passes
need of :func:`forward`: y by "relu", the code by "pool", None by "plain".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import check
from ..errors import InputError
from ..shapes import conv_extent, pool_extent
from .launch import Backend, Geometry, Kernel, backend_of, ceil_div, choose, elementwise, extents, require_size

FORWARD = {
    "naive": Kernel("conv2d_forward", "conv2d_forward_naive"),
    "tiled": Kernel("conv2d_forward", "conv2d_forward_tiled"),
    "vectorised": Kernel("conv2d_forward", "conv2d_forward_vectorised"),
    "long": Kernel("conv2d_forward", "conv2d_forward_long"),
}
BACKWARD_DATA = {
    "naive": Kernel("conv2d_backward_data", "conv2d_backward_data_naive"),
    "tiled": Kernel("conv2d_backward_data", "conv2d_backward_data_tiled"),
    "vectorised": Kernel("conv2d_backward_data", "conv2d_backward_data_vectorised"),
    "long": Kernel("conv2d_backward_data", "conv2d_backward_data_long"),
}
BACKWARD_WEIGHTS = {
    "naive": Kernel("conv2d_backward_weights", "conv2d_backward_weights_naive"),
    "tiled": Kernel("conv2d_backward_weights", "conv2d_backward_weights_tiled"),
    "vectorised": Kernel("conv2d_backward_weights", "conv2d_backward_weights_vectorised"),
}
BACKWARD_WEIGHTS_SUM = Kernel("conv2d_backward_weights", "conv2d_backward_weights_sum")
BACKWARD_BIAS = {
    "naive": Kernel("conv2d_backward_bias", "conv2d_backward_bias_naive"),
    "warp": Kernel("conv2d_backward_bias", "conv2d_backward_bias_warp"),
}

_FORMS = {"plain": np.uint32(0), "relu": np.uint32(1), "pool": np.uint32(2)}  # as in conv2d_gradient.cuh
_KEPT = {"relu": "y", "pool": "code"}
_CHANNELS, _IMAGES, _WINDOWS, _THREADS = 32, 32, 2, 128  # of a block, see conv2d_tile.cuh
_ROWS, _FILTERS = 128, 32  # of a block of backward_weights
_SHARED, _MOST_SHARED = 56 * 1024, 99 * 1024  # bytes a block: four of a large GPU at once; what every GPU has
_LONGEST_CHAIN = 4096  # additions one after the other
_BLOCKS = 512  # keep any GPU busy
_BY_SPEED = ("naive", "long", "tiled", "vectorised")


@dataclass(frozen=True)
class Sizes:
    """The extents of a convolution."""

    C: int
    H: int
    W: int
    N: int
    R: int
    S: int
    K: int

    @property
    def P(self) -> int:
        """Rows of the sum."""
        return conv_extent(self.H, self.R)

    @property
    def Q(self) -> int:
        """Columns of the sum."""
        return conv_extent(self.W, self.S)

    def output(self, form: str) -> tuple[int, int, int, int]:
        """Shape of y."""
        if form == "pool":
            return self.K, pool_extent(self.P), pool_extent(self.Q), self.N
        return self.K, self.P, self.Q, self.N

    def arguments(self) -> tuple[np.uint32, ...]:
        """C, H, W, N, R, S, K as kernels take them."""
        return extents(self.C, self.H, self.W, self.N, self.R, self.S, self.K)


def forward(x: Any, weight: Any, bias: Any, *, activate: bool = True, pool: bool = True) -> tuple[Any, Any]:
    """Convolution + bias (+ ReLU (+ 2×2 max-pool)).

    Args:
        x: (C, H, W, N).
        weight: (C, R, S, K).
        bias: (K, P, Q), P = H−R+1, Q = W−S+1.
        activate: apply ReLU.
        pool: max-pool after it; needs ``activate``.

    Returns:
        y (K, P, Q, N) and None, or pooled y (K, ⌈P/2⌉, ⌈Q/2⌉, N) and its uint8 code.

    Raises:
        InputError: arrays that do not fit each other or the kernels.
    """
    return convolve(x, weight, bias, _form(activate, pool))


def backward(
    x: Any, weight: Any, y: Any, code: Any, gradient: Any, *, activate: bool = True, data: bool = True
) -> tuple[Any, Any, Any]:
    """Gradients of :func:`forward`, from its inputs, its results and the gradient of y.

    Returns:
        dx (C, H, W, N), or None where ``data`` is false; dweight (C, R, S, K); dbias (K, P, Q).

    Raises:
        InputError: arrays that do not fit each other or the kernels.
    """
    form = "pool" if code is not None else "relu" if activate else "plain"
    kept = {"pool": code, "relu": y, "plain": None}[form]
    backend_of("conv2d", x=x, weight=weight)
    sizes = _sizes(x, weight)
    _require_gradient(sizes, form, gradient, kept, x=x, weight=weight)
    dweight = backward_weights(x, gradient, kept, form, sizes)
    dbias = backward_bias(gradient, kept, form, sizes)
    return backward_data(weight, gradient, kept, form, sizes) if data else None, dweight, dbias


def convolve(x: Any, weight: Any, bias: Any, form: str, version: str | None = None) -> tuple[Any, Any]:
    """:func:`forward` in one form, by one version; None takes the fastest that fits the sizes."""
    backend = backend_of("conv2d", x=x, weight=weight, bias=bias)
    sizes = _sizes(x, weight)
    check.shape("conv2d", "bias", bias, (sizes.K, sizes.P, sizes.Q))
    _require_form(form)
    version = forward_version(sizes, version)
    shape = sizes.output(form)
    require_size("conv2d", "y", shape)
    y = backend.empty(shape)
    code = backend.empty(shape if form == "pool" else (0,), np.uint8)
    geometry, stage = forward_geometry(sizes, version)
    arguments = (x, weight, bias, y, code, *sizes.arguments(), _FORMS[form])
    FORWARD[version](backend, geometry, *arguments, *stage)
    return y, code if form == "pool" else None


def backward_data(weight: Any, gradient: Any, kept: Any, form: str, sizes: Sizes, version: str | None = None) -> Any:
    """dx (C, H, W, N) from weight (C, R, S, K), the gradient of y and what its form keeps."""
    backend = _require_gradient(sizes, form, gradient, kept, weight=weight)
    version = backward_data_version(sizes, version)
    shape = (sizes.C, sizes.H, sizes.W, sizes.N)
    require_size("conv2d", "dx", shape)
    dx = backend.empty(shape)
    geometry, stage = backward_data_geometry(sizes, version)
    arguments = (weight, gradient, _placed(kept, gradient), dx, *sizes.arguments(), _FORMS[form])
    BACKWARD_DATA[version](backend, geometry, *arguments, *stage)
    return dx


def backward_weights(x: Any, gradient: Any, kept: Any, form: str, sizes: Sizes, version: str | None = None) -> Any:
    """dweight (C, R, S, K) from x (C, H, W, N), the gradient of y and what its form keeps."""
    backend = _require_gradient(sizes, form, gradient, kept, x=x)
    version = backward_weights_version(sizes, version)
    shape = (sizes.C, sizes.R, sizes.S, sizes.K)
    parts, steps = backward_weights_parts(sizes)
    require_size("conv2d", "the partial sums of dweight", (parts, *shape))
    partial = backend.empty((parts, *shape))
    BACKWARD_WEIGHTS[version](
        backend,
        backward_weights_geometry(sizes, version),
        *(x, gradient, _placed(kept, gradient), partial),
        *sizes.arguments(),
        *(_FORMS[form], np.uint32(steps)),
    )
    return sum_parts(partial) if parts > 1 else partial.reshape(shape)


def sum_parts(partial: Any) -> Any:
    """The sum over the first axis, in order."""
    backend = backend_of("conv2d", partial=partial)
    dweight = backend.empty(partial.shape[1:])
    size = dweight.size
    BACKWARD_WEIGHTS_SUM(backend, elementwise(size), partial, dweight, np.uint32(partial.shape[0]), np.uint32(size))
    return dweight


def backward_bias(gradient: Any, kept: Any, form: str, sizes: Sizes, version: str = "warp") -> Any:
    """dbias (K, P, Q) from the gradient of y and what its form keeps."""
    backend = _require_gradient(sizes, form, gradient, kept)
    kernel = choose("conv2d", BACKWARD_BIAS, version)
    K, P, Q, N = sizes.K, sizes.P, sizes.Q, sizes.N
    dbias = backend.empty((K, P, Q))
    warps = _THREADS // 32
    geometry = elementwise(dbias.size) if version == "naive" else Geometry((ceil_div(dbias.size, warps),), (_THREADS,))
    kernel(backend, geometry, gradient, _placed(kept, gradient), dbias, *extents(N, K, P, Q), _FORMS[form])
    return dbias


def forward_version(sizes: Sizes, version: str | None = None) -> str:
    """The version of the forward pass that is asked for; None: the fastest that fits the sizes."""
    return _chosen(version, _fitting(sizes, sizes.C, 2 * _stage_bytes(sizes)))


def backward_data_version(sizes: Sizes, version: str | None = None) -> str:
    """The version of the gradient of x that is asked for; None: the fastest that fits the sizes."""
    fits = _fitting(sizes, sizes.K, _stage_bytes(sizes))
    fits["vectorised"] &= 4 * _stage_bytes(sizes) <= _MOST_SHARED
    return _chosen(version, fits)


def backward_weights_version(sizes: Sizes, version: str | None = None) -> str:
    """The version of the gradient of the weights that is asked for; None: the fastest that fits the sizes."""
    return _chosen(version, {"naive": True, "tiled": True, "vectorised": sizes.N % 4 == 0})


def forward_geometry(sizes: Sizes, version: str) -> tuple[Geometry, tuple[np.uint32, ...]]:
    """Launch of the forward pass, and the channels of a stage where the version has stages."""
    windows = pool_extent(sizes.P), pool_extent(sizes.Q)
    if version == "naive":
        return elementwise(sizes.K * windows[0] * windows[1] * sizes.N), ()
    channels = _stage_channels(sizes, sizes.C, stages=2)
    return _tiles(sizes, windows, sizes.K, 2 * channels), (np.uint32(channels),)


def backward_data_geometry(sizes: Sizes, version: str) -> tuple[Geometry, tuple[np.uint32, ...]]:
    """Launch of the gradient of x, and the filters of a stage where the version has stages."""
    if version == "naive":
        return elementwise(sizes.C * sizes.H * sizes.W * sizes.N), ()
    filters = _stage_channels(sizes, sizes.K, stages=1, multiple=4 if version == "vectorised" else 1)
    return _tiles(sizes, (pool_extent(sizes.H), pool_extent(sizes.W)), sizes.C, filters), (np.uint32(filters),)


def backward_weights_parts(sizes: Sizes) -> tuple[int, int]:
    """How many parts the sum over positions and images is cut into, and how many steps of 32 images one has."""
    steps = sizes.P * sizes.Q * ceil_div(sizes.N, _IMAGES)
    parts = max(ceil_div(steps * _IMAGES, _LONGEST_CHAIN), _BLOCKS // max(_weight_blocks(sizes), 1), 1)
    each = max(ceil_div(steps, parts), 1)
    return max(ceil_div(steps, each), 1), each


def backward_weights_geometry(sizes: Sizes, version: str) -> Geometry:
    """Launch of the partial gradients of the weights."""
    parts, _ = backward_weights_parts(sizes)
    if version == "naive":
        flat = elementwise(sizes.C * sizes.R * sizes.S * sizes.K)
        return Geometry((*flat.grid, parts), flat.block)
    return Geometry((_weight_blocks(sizes) * parts,), (_THREADS,))


def _weight_blocks(sizes: Sizes) -> int:
    return ceil_div(sizes.C * sizes.R * sizes.S, _ROWS) * ceil_div(sizes.K, _FILTERS)


def _tiles(sizes: Sizes, windows: tuple[int, int], channels: int, staged: int) -> Geometry:
    blocks = ceil_div(sizes.N, _IMAGES) * windows[0] * ceil_div(windows[1], _WINDOWS) * ceil_div(channels, _CHANNELS)
    return Geometry((blocks,), (_THREADS,), staged * _stage_bytes(sizes))


def _stage_bytes(sizes: Sizes) -> int:
    """Shared memory for one channel of what is summed over: its patch and its weights."""
    patch = (sizes.R + 1) * (sizes.S + 2 * _WINDOWS - 1)
    return 4 * (patch * _IMAGES + sizes.R * sizes.S * _CHANNELS)


def _stage_channels(sizes: Sizes, total: int, stages: int, multiple: int = 1) -> int:
    """As many channels a stage as leave room for four blocks, but not so many that the last stage is mostly empty."""
    most = max(multiple, _SHARED // (stages * _stage_bytes(sizes)))
    choices = range(multiple, most + 1, multiple)
    return min(choices, key=lambda channels: (ceil_div(total, channels) * channels, -channels))


def _fitting(sizes: Sizes, channels: int, shared: int) -> dict[str, bool]:
    """Which versions take sums over so many channels, with so many bytes of shared memory for a stage or two."""
    staged, short = shared <= _MOST_SHARED, channels * sizes.R * sizes.S <= _LONGEST_CHAIN
    aligned = sizes.N % 4 == sizes.K % 4 == 0
    return {"naive": True, "tiled": staged and short, "vectorised": staged and short and aligned, "long": staged}


def _chosen(version: str | None, fits: dict[str, bool]) -> str:
    fitting = [name for name in fits if fits[name]]
    if version is None:
        return max(fitting, key=_BY_SPEED.index)
    if version not in fitting:
        raise InputError(
            f"conv2d: version is {version!r}, expected {' or '.join(fitting)} for these sizes; vectorised takes "
            f"multiples of 4 images and filters, tiled sums of {_LONGEST_CHAIN} terms, long filters that fit in "
            "shared memory"
        )
    return version


def _placed(kept: Any, gradient: Any) -> Any:
    """A kernel takes an array, also where it will not read it."""
    return gradient if kept is None else kept


def _form(activate: bool, pool: bool) -> str:
    if pool and not activate:
        raise InputError("conv2d: a pool without ReLU has no code byte; leave activate on, or pool apart")
    return "pool" if pool else "relu" if activate else "plain"


def _sizes(x: Any, weight: Any) -> Sizes:
    check.shape("conv2d", "x", x, (None, None, None, None))
    check.shape("conv2d", "weight", weight, (x.shape[0], None, None, None))
    sizes = Sizes(*x.shape, *weight.shape[1:])
    if sizes.R > sizes.H or sizes.S > sizes.W or min(sizes.R, sizes.S) < 1:
        raise InputError(
            f"conv2d: weight has filters of {sizes.R}×{sizes.S}, expected at least 1×1 and at most the image of "
            f"{sizes.H}×{sizes.W}"
        )
    return sizes


def _require_form(form: str) -> None:
    if form not in _FORMS:
        raise InputError(f"conv2d: form is {form!r}, expected {' or '.join(_FORMS)}")


def _require_gradient(sizes: Sizes, form: str, gradient: Any, kept: Any, **inputs: Any) -> Backend:
    """Check what a backward pass reads, ``inputs`` being x, weight, both or neither, and give its device."""
    _require_form(form)
    arrays = {**inputs, "gradient": gradient}
    if form in _KEPT:
        arrays[_KEPT[form]] = kept
    backend = backend_of("conv2d", {"code": np.uint8}, **arrays)
    shapes = {"x": (sizes.C, sizes.H, sizes.W, sizes.N), "weight": (sizes.C, sizes.R, sizes.S, sizes.K)}
    for name, array in arrays.items():
        check.shape("conv2d", name, array, shapes.get(name, sizes.output(form)))
    return backend
