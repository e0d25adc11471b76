"""The two kinds of layer with weights: what parameters they have and how they act on the tape."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..autograd.tape import Tape, Variable
from ..core.dropout_mask import DropoutMask
from ..core.shapes import Conv2dSizes, conv2d_macs, conv_extent, dense_macs, pool_extent
from ..ops.conv2d import conv2d
from ..ops.dense import dense


@dataclass(frozen=True)
class Parameter:
    """A parameter array: its name and shape, the inputs that feed one output, and the published initialisation.

    ``std`` is the standard deviation of the weights; a bias has None and starts at ``constant``. ``rectified``:
    the layer's output passes a rectifier or maxout.
    """

    name: str
    shape: tuple[int, ...]
    fan_in: int
    std: float | None = None
    constant: float = 0.0
    rectified: bool = True


@dataclass(frozen=True)
class Convolution:
    """Convolution, untied bias, ReLU, and optionally a 2×2 max-pool."""

    name: str
    C: int
    extent: int
    filter_size: int
    K: int
    pool: bool
    std: float

    @property
    def conv_extent(self) -> int:
        """Rows (and columns) of the output before the pool."""
        return conv_extent(self.extent, self.filter_size)

    @property
    def output_extent(self) -> int:
        """Rows (and columns) of the output."""
        return pool_extent(self.conv_extent) if self.pool else self.conv_extent

    def parameters(self) -> tuple[Parameter, ...]:
        """Weight (C, R, S, K) and bias (K, P, Q)."""
        size = self.filter_size
        fan_in = self.C * size * size
        return (
            Parameter(f"{self.name}.weight", (self.C, size, size, self.K), fan_in, self.std),
            Parameter(f"{self.name}.bias", (self.K, self.conv_extent, self.conv_extent), fan_in, constant=0.1),
        )

    @property
    def outputs(self) -> int:
        """Filters."""
        return self.K

    @property
    def epilogue(self) -> str:
        """The epilogue: "relu" or "pool"."""
        return "pool" if self.pool else "relu"

    def sizes(self, N: int) -> Conv2dSizes:
        """The extents for so many images times views."""
        return Conv2dSizes(self.C, self.extent, self.extent, N, self.filter_size, self.filter_size, self.K)

    def macs(self, N: int) -> int:
        """Multiply-adds of a forward pass."""
        return conv2d_macs(self.C, self.filter_size, self.filter_size, self.K, self.conv_extent, self.conv_extent, N)

    def __call__(self, tape: Tape, x: Variable, parameters: Mapping[str, Variable]) -> Variable:
        """x (C, H, W, N) to (K, P', Q', N), P' and Q' being ``output_extent``."""
        with tape.named(self.name):
            return conv2d(tape, x, parameters[f"{self.name}.weight"], parameters[f"{self.name}.bias"], pool=self.pool)


@dataclass(frozen=True)
class Dense:
    """Dense product, then "maxout" (two pieces a unit), "relu" or "linear", then dropout for the layer that follows."""

    name: str
    inputs: int
    units: int
    activation: str
    std: float
    bias: float
    index: int  # of the dense layers: its inputs' dropout mask

    @property
    def outputs(self) -> int:
        """Columns of the weight: two a maxout unit."""
        return 2 * self.units if self.activation == "maxout" else self.units

    def parameters(self) -> tuple[Parameter, ...]:
        """Weight (in, out) and bias (out,)."""
        rectified = self.activation != "linear"
        return (
            Parameter(f"{self.name}.weight", (self.inputs, self.outputs), self.inputs, self.std, rectified=rectified),
            Parameter(f"{self.name}.bias", (self.outputs,), self.inputs, constant=self.bias, rectified=rectified),
        )

    def macs(self, batch: int) -> int:
        """Multiply-adds of a forward pass."""
        return dense_macs(self.inputs, self.outputs, batch)

    def __call__(
        self,
        tape: Tape,
        x: Variable,
        parameters: Mapping[str, Variable],
        drop: DropoutMask | None = None,
    ) -> Variable:
        """x (inputs, B) to (units, B), elements of which ``drop`` drops."""
        weight, bias = parameters[f"{self.name}.weight"], parameters[f"{self.name}.bias"]
        with tape.named(self.name):
            return dense(tape, x, weight, bias, activation=self.activation, drop=drop)
