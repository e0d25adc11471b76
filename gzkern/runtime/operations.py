"""The table of a device's operations: one callable each, with one signature on every device.

``cpu/operations.py`` and ``cuda/operations.py`` hold the two tables; mypy checks each function against the types here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from ..core.dropout_mask import DropoutMask
from ..core.fused_update import FusedUpdate
from ..decision_trees.tree import DecisionTree

Array = Any
"""A NumPy array on ``cpu`` and ``emulated``, CuPy's on ``cuda``, a :class:`capture.Buffer` while a step is captured."""


class Conv2dForward(Protocol):
    """See ``cuda.conv2d.operation.forward``."""

    def __call__(
        self, x: Array, weight: Array, bias: Array, *, activate: bool = ..., pool: bool = ..., precision: str = ...
    ) -> tuple[Array, Array | None]:
        """Return y and the code of its pool."""


class Conv2dBackward(Protocol):
    """See ``cuda.conv2d.operation.backward``."""

    def __call__(
        self,
        x: Array,
        weight: Array,
        y: Array,
        code: Array | None,
        gradient: Array,
        *,
        activate: bool = ...,
        data: bool = ...,
        precision: str = ...,
    ) -> tuple[Array | None, Array, Array]:
        """Return dx, dweight, dbias."""


class DenseForward(Protocol):
    """See ``cuda.dense.forward.forward``."""

    def __call__(
        self,
        x: Array,
        weight: Array,
        bias: Array,
        *,
        activation: str = ...,
        drop: DropoutMask | None = ...,
        precision: str = ...,
    ) -> tuple[Array, Array | None]:
        """Return y and the code of its maxout."""


class DenseBackward(Protocol):
    """See ``cuda.dense.backward.backward``."""

    def __call__(
        self,
        x: Array,
        weight: Array,
        y: Array,
        code: Array | None,
        gradient: Array,
        *,
        activation: str = ...,
        data: bool = ...,
        drop: DropoutMask | None = ...,
        update: FusedUpdate | None = ...,
        precision: str = ...,
    ) -> tuple[Array | None, Array | None, Array]:
        """Return dx, dweight (None where the update is fused), dbias."""


class ViewpointsForward(Protocol):
    """See ``cuda.viewpoints.forward``."""

    def __call__(self, crops: Array, extent: int, *, precision: str = ...) -> Array:
        """Return the patches."""


@dataclass(frozen=True)
class Conv2d:
    """Convolution with untied biases, ReLU and 2×2 max-pool."""

    forward: Conv2dForward
    backward: Conv2dBackward


@dataclass(frozen=True)
class Dense:
    """Dense layer with bias, activation and dropout."""

    forward: DenseForward
    backward: DenseBackward


@dataclass(frozen=True)
class Constraints:
    """Raw answers to probabilities by the decision tree, and the clip of the warm-up."""

    forward: Callable[[Array, DecisionTree], tuple[Array, Array]]
    backward: Callable[[Array, Array, Array, Array, DecisionTree], Array]
    clip_forward: Callable[[Array], Array]
    clip_backward: Callable[[Array, Array], Array]


@dataclass(frozen=True)
class Dropout:
    """Dropout by a counter-based mask."""

    forward: Callable[[Array, DropoutMask], Array]
    backward: Callable[[Array, DropoutMask], Array]


@dataclass(frozen=True)
class Maxout:
    """Maxout over adjacent pairs of rows."""

    forward: Callable[[Array], tuple[Array, Array]]
    backward: Callable[[Array, Array], Array]


@dataclass(frozen=True)
class MaxPool2d:
    """2×2 max-pool with stride 2."""

    forward: Callable[[Array], tuple[Array, Array]]
    backward: Callable[[Array, Array, int, int], Array]


@dataclass(frozen=True)
class Mse:
    """Mean squared error."""

    forward: Callable[[Array, Array], Array]
    backward: Callable[[Array, Array, Array], Array]


@dataclass(frozen=True)
class Relu:
    """Rectifier."""

    forward: Callable[[Array], Array]
    backward: Callable[[Array, Array], Array]


@dataclass(frozen=True)
class Viewpoints:
    """Gather of the 16 viewpoints."""

    forward: ViewpointsForward
    backward: Callable[[Array, int], Array]


@dataclass(frozen=True)
class Nesterov:
    """Nesterov momentum: one parameter, or several in few launches."""

    update: Callable[[Array, Array, Array, Any, float, Array], None]
    update_all: Callable[[Sequence[tuple[Array, Array, Array]], Any, float, Array], None]


@dataclass(frozen=True)
class NanGuard:
    """Guard against losses that are not finite."""

    check: Callable[[Array, Any, Array], None]


@dataclass(frozen=True)
class StepCounter:
    """Sum of the losses and number of the step, on the device."""

    advance: Callable[[Array, Array, Array], None]


@dataclass(frozen=True)
class Operations:
    """All operations of the tape and the optimiser."""

    constraints: Constraints
    conv2d: Conv2d
    dense: Dense
    dropout: Dropout
    maxout: Maxout
    maxpool2d: MaxPool2d
    mse: Mse
    nan_guard: NanGuard
    nesterov: Nesterov
    relu: Relu
    step_counter: StepCounter
    viewpoints: Viewpoints


class WarpCrops(Protocol):
    """See ``cuda.warp.crops``."""

    def __call__(
        self, images: Array, indices: Array, matrices: Array, shifts: Array, step: Array, target: int
    ) -> Array:
        """Return the crops."""


class WarpPatches(Protocol):
    """See ``cuda.warp.patches``."""

    def __call__(
        self,
        images: Array,
        indices: Array,
        matrices: Array,
        shifts: Array,
        step: Array,
        target: int,
        extent: int,
        dtype: Any = ...,
    ) -> Array:
        """Return the patches."""


@dataclass(frozen=True)
class Warp:
    """Crops and patches sampled from whole images."""

    crops: WarpCrops
    patches: WarpPatches


@dataclass(frozen=True)
class GatherBatch:
    """Copy of the batch that the step counter names."""

    gather: Callable[[Array, Array], Array]


@dataclass(frozen=True)
class Bf16ToFp32:
    """bfloat16 as float32."""

    convert: Callable[[Array], Array]


@dataclass(frozen=True)
class KernelOperations(Operations):
    """The operations of a device that runs kernels: also those that feed a captured step, and those of bfloat16."""

    bf16_to_fp32: Bf16ToFp32
    gather_batch: GatherBatch
    warp: Warp
