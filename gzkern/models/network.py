"""The network of the paper: 16 viewpoints, shared convolutions, dense maxout layers, constrained answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..autograd.tape import Tape, Variable
from ..config import Config, DataConfig, ModelConfig
from ..core import arguments
from ..core.bfloat16 import to_bfloat16
from ..core.dropout_mask import DropoutMask
from ..core.shapes import VIEWS, patch_extent
from ..decision_trees.tree import DecisionTree, load_tree
from ..device import Device, KernelDevice, kernel_device, require_precision, select
from ..errors import InputError
from ..nn.initialisation import initial
from ..nn.layers import Convolution, Dense, Parameter
from ..ops.constraints import clip, constraints
from ..ops.dropout import dropout
from ..ops.mse import mse
from ..ops.viewpoints import flatten, merge_views, viewpoints
from ..runtime.kernel import ceil_div

_POOLED = (True, True, False, True)
_BFLOAT16_OUTPUTS = 8  # whose weights its kernels load at once
_BFLOAT16_BATCH = 8  # images that its kernels load at once
_EVEN = 64  # images
_CONV_STD = (0.01, 0.01, 0.01, 0.1)


class Network:
    """Layers by configuration, parameters by name, and what can be done with them.

    Parameters live in their run-time order; ``state`` and ``load_state`` speak the order of the files, in which
    the rows of the first dense layer after the merge run over (view, feature) as in the original.

    >>> import gzkern
    >>> network = gzkern.build_network(gzkern.load_config("laptop"), "cpu")
    >>> network.parameter_count
    1258597
    >>> list(network.state())[:2]
    ['conv1.weight', 'conv1.bias']
    """

    def __init__(
        self, model: ModelConfig, data: DataConfig, tree: DecisionTree, device: Device, precision: str = "fp32"
    ):
        self.device = device
        self.precision = precision
        self.tree = tree
        self.target = data.target
        self.patch = patch_extent(data.target)
        self.convolutions = _convolutions(model, self.patch)
        last = self.convolutions[-1]
        self.view_features = last.K * last.output_extent**2
        self.view_dense = (
            Dense("view_dense", self.view_features, model.view_dense, "maxout", 0.01, 0.1, 0)
            if model.view_dense
            else None
        )
        merged = (model.view_dense or self.view_features) * VIEWS
        self.dense = _dense_layers(model, merged, len(tree.columns))
        self.parameters: dict[str, Any] = {}  # arrays of the device
        self.version = 0  # of the parameters' values, as initialise and load_state set them

    def __repr__(self) -> str:
        dense = len(self.layers()) - len(self.convolutions)
        return (
            f"<Network: {self.parameter_count:,} parameters in {len(self.convolutions)} convolutions and {dense} dense "
            f"layers; {len(self.tree.columns)} answers of {self.tree.name}; {self.precision} on {self.device.name}>"
        )

    def layers(self) -> tuple[Convolution | Dense, ...]:
        """All layers with weights, first to last."""
        return (*self.convolutions, *((self.view_dense,) if self.view_dense else ()), *self.dense)

    def specifications(self) -> tuple[Parameter, ...]:
        """Name, shape and published initialisation of every parameter, first layer first."""
        return tuple(p for layer in self.layers() for p in layer.parameters())

    @property
    def parameter_count(self) -> int:
        """Number of trainable values: 42,377,125 for the best published network."""
        return sum(int(np.prod(p.shape)) for p in self.specifications())

    def initialise(self, scheme: str, seed: int) -> None:
        """Fresh parameters from the seed; ``scheme`` as in nn.initialisation."""
        self._set({p.name: initial(p, scheme, seed) for p in self.specifications()})

    def patches(self, tape: Tape, crops: Variable) -> Variable:
        """Crops (B, 2, T, T, 3) to the viewpoints' patches (3, S, S, 16·B)."""
        with tape.named("viewpoints"):
            return viewpoints(tape, crops, self.patch)

    def answers(
        self,
        tape: Tape,
        patches: Variable,
        variables: Mapping[str, Variable],
        *,
        constrained: bool = True,
        drop: float = 0.0,
        seed_and_step: tuple[int, Any] = (0, 0),
    ) -> Variable:
        """Patches (3, S, S, 16·B) to answers (A, B); clipped in place of constrained during the warm-up.

        By bf16 all but the last layer compute in bfloat16: it is small, and what it gives is the answer.
        """
        x = patches
        for convolution in self.convolutions:
            x = convolution(tape, x, variables)
        layers = (*((self.view_dense,) if self.view_dense else ()), *self.dense)
        masks = [DropoutMask(drop, *seed_and_step, layer.index) if drop > 0 else None for layer in layers]
        x = flatten(tape, x) if self.view_dense else merge_views(tape, x)
        if masks[0]:
            with tape.named(layers[0].name):
                x = dropout(tape, x, masks[0])
        for layer, mask in zip(layers, [*masks[1:], None], strict=True):  # each drops what the next one reads
            if layer is self.dense[-1] and tape.precision == "bf16":
                x = Variable(kernel_device(tape.device).operations.bf16_to_fp32.convert(x.value))
            x = layer(tape, x, variables, mask)
            if layer is self.view_dense:
                x = merge_views(tape, x)
        with tape.named("constraints"):
            return constraints(tape, x, self.tree) if constrained else clip(tape, x)

    def predict(self, crops: np.ndarray) -> np.ndarray:
        """Probabilities (B, A) float32 of the answers, computed eagerly.

        For many batches take a :class:`Predictor`, which in bf16 rounds the weights once and not at every call. On a
        device that runs kernels the batch is padded to one of a few sizes, so that bits do not depend on it.

        Args:
            crops: (B, 2, T, T, 3), uint8 or float in [0, 1].

        Raises:
            InputError: the crops have another shape.

        >>> import gzkern
        >>> network = gzkern.build_network(gzkern.load_config("laptop"), "cpu")
        >>> crops = np.zeros((2, 2, 69, 69, 3), np.uint8)  # two black images, each upright and turned by 45°
        >>> answers = network.predict(crops)
        >>> answers.shape, bool((answers[0] == answers[1]).all())
        ((2, 37), True)
        """
        self.require_crops(crops)
        batch = len(crops)
        if isinstance(self.device, KernelDevice):
            padding = np.zeros((padded_batch(batch, self.precision) - batch, *crops.shape[1:]), crops.dtype)
            crops = np.concatenate([crops, padding])
        tape = Tape(self.device, recording=False, precision=self.precision)
        variables = {name: Variable(array) for name, array in self.operands().items()}
        answers = self.answers(tape, self.patches(tape, self._pixels(crops)), variables).value
        return np.array(self.device.asnumpy(answers)[:, :batch].T, order="C")

    def operands(self) -> dict[str, Any]:
        """Parameters as the products read them: by bf16 the weights of all layers but the last are rounded to it."""
        last = f"{self.dense[-1].name}.weight"
        if self.precision != "bf16":
            return dict(self.parameters)
        return {
            name: self.device.asarray(to_bfloat16(self.device.asnumpy(array)))
            if name.endswith(".weight") and name != last
            else array
            for name, array in self.parameters.items()
        }

    def loss_and_gradients(
        self,
        crops: np.ndarray,
        targets: np.ndarray,
        *,
        constrained: bool = True,
        drop: float = 0.0,
        seed_and_step: tuple[int, int] = (0, 0),
    ) -> tuple[float, dict[str, np.ndarray]]:
        """Mean squared error over batch × answers, and its gradient by parameter name, in the files' order.

        Args:
            crops: (B, 2, T, T, 3), uint8 or float in [0, 1].
            targets: (B, A) answer fractions.
            constrained: False takes the clipped output of the warm-up.
            drop: probability to drop an input of a dense layer.
            seed_and_step: key of the dropout masks.

        Raises:
            InputError: crops or targets have another shape.

        >>> import gzkern
        >>> network = gzkern.build_network(gzkern.load_config("laptop"), "cpu")
        >>> crops, targets = np.zeros((2, 2, 69, 69, 3), np.uint8), np.zeros((2, 37), np.float32)
        >>> loss, gradients = network.loss_and_gradients(crops, targets)
        >>> gradients["conv1.weight"].shape  # C, R, S, K
        (3, 6, 6, 16)
        """
        loss, gradients = self.runtime_gradients(
            crops, targets, constrained=constrained, drop=drop, seed_and_step=seed_and_step
        )
        arrays = {name: self.device.asnumpy(gradient) for name, gradient in gradients.items()}
        return float(self.device.asnumpy(loss)), self.file_order(arrays)

    def runtime_gradients(self, crops: np.ndarray, targets: np.ndarray, **how: Any) -> tuple[Any, dict[str, Any]]:
        """:meth:`loss_and_gradients` as the optimiser takes them: on the device, without waiting for it.

        The loss has shape (); gradients are in run-time order, and those of dense weights perhaps factors.
        """
        self.require_crops(crops)
        arguments.shape("loss", "targets", targets, (len(crops), len(self.tree.columns)))
        tape = Tape(self.device, precision=self.precision)
        variables = {name: Variable(array, True) for name, array in self.parameters.items()}
        answers = self.answers(tape, self.patches(tape, self._pixels(crops)), variables, **how)
        loss = mse(tape, answers, self.device.asarray(np.ascontiguousarray(targets.T, answers.value.dtype)))
        tape.backward(loss, self.device.asarray(np.ones((), answers.value.dtype)))
        return loss.value, {name: v.gradient for name, v in variables.items()}

    def state(self) -> dict[str, np.ndarray]:
        """The parameters in the order of the files."""
        return self.file_order({name: self.device.asnumpy(array) for name, array in self.parameters.items()})

    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Take parameters in the order of the files.

        Raises:
            InputError: a name is missing or unknown, or a shape or dtype is not the network's.
        """
        self._set(self.runtime_order(state))

    def runtime_order(self, state: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Arrays by parameter name from the files' order to the run-time order, checked."""
        specifications = {p.name: p for p in self.specifications()}
        for kind, names in (
            ("lacks", specifications.keys() - state.keys()),
            ("has an unknown", state.keys() - specifications.keys()),
        ):
            if names:
                raise InputError(f"weights: the file {kind} array {min(names)!r}; it is of another network")
        for name, specification in specifications.items():
            array = state[name]
            if array.shape != specification.shape or array.dtype != np.float32:
                raise InputError(
                    f"weights: {name} is {array.dtype} {array.shape}, this network has "
                    f"float32 {specification.shape}; the configuration is of another network"
                )
            if not np.isfinite(array).all():
                raise InputError(f"weights: {name} holds a value that is not finite; the file is damaged, train again")
        return self._swap_merged(state, from_files=True)

    def file_order(self, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Arrays by parameter name from the run-time order to that of the files."""
        return self._swap_merged(arrays, from_files=False)

    def _set(self, arrays: Mapping[str, np.ndarray]) -> None:
        """In place where there are parameters already: a captured step reads them where they lie."""
        for name, array in arrays.items():
            if name in self.parameters:
                self.device.write(self.parameters[name], array)
            else:
                self.parameters[name] = self.device.asarray(array)
        self.version += 1

    def _swap_merged(self, arrays: Mapping[str, np.ndarray], *, from_files: bool) -> dict[str, np.ndarray]:
        """Rows of the merged layer between (view, feature), as in files, and (feature, view)."""
        name = f"{self.dense[0].name}.weight"
        merged = arrays[name]
        features = merged.shape[0] // VIEWS
        rows = (VIEWS, features) if from_files else (features, VIEWS)
        swapped = merged.reshape(*rows, -1).transpose(1, 0, 2).reshape(merged.shape)
        return {other: np.array(swapped if other == name else array, order="C") for other, array in arrays.items()}

    def _pixels(self, crops: np.ndarray) -> Variable:
        """Crops as the viewpoints take them: uint8, or in [0, 1] in the dtype of the parameters."""
        if crops.dtype != np.uint8:
            crops = crops.astype(next(iter(self.parameters.values())).dtype, copy=False)
        return Variable(self.device.asarray(np.ascontiguousarray(crops)))

    def require_crops(self, crops: np.ndarray) -> None:
        """Refuse crops of another shape, and a network without parameters.

        Raises:
            InputError: says which.
        """
        arguments.shape("network", "crops", crops, (None, 2, self.target, self.target, 3))
        self.require_parameters()

    def require_parameters(self) -> None:
        """Refuse a network without parameters.

        Raises:
            InputError: says how to set them.
        """
        if not self.parameters:
            raise InputError("network: no parameters yet; call initialise or load_state first")


def padded_batch(batch: int, precision: str) -> int:
    """The number of images that kernels compute for ``batch`` of them: a power of two, or a multiple of 64.

    Few sizes mean few captured programs and few kernels to compile, and results that do not depend on the batch.
    """
    if batch > _EVEN:
        return ceil_div(batch, _EVEN) * _EVEN
    return max(1 << (batch - 1).bit_length(), _BFLOAT16_BATCH if precision == "bf16" else 1)


def _convolutions(model: ModelConfig, extent: int) -> tuple[Convolution, ...]:
    layers: list[Convolution] = []
    C = 3
    for index, (K, size) in enumerate(zip(model.filters, model.filter_sizes, strict=True)):
        if size > extent:
            raise InputError(
                f"[model] filter_sizes: filter {index + 1} of {size} pixels exceeds its input of {extent}; "
                "take smaller filters or a larger [data] target"
            )
        layer = Convolution(f"conv{index + 1}", C, extent, size, K, _POOLED[index], _CONV_STD[index])
        layers.append(layer)
        C, extent = K, layer.output_extent
    return tuple(layers)


def _dense_layers(model: ModelConfig, inputs: int, answers: int) -> tuple[Dense, ...]:
    layers: list[Dense] = []
    for index, units in enumerate(model.units, start=1):
        layers.append(Dense(f"dense{index}", inputs, units, model.head, 0.001, 0.01, index))
        inputs = units
    number = len(model.units) + 1
    return (*layers, Dense(f"dense{number}", inputs, answers, "linear", 0.01, 0.1, number))


def empty_network(config: Config, device: str | Device | None = None, precision: str | None = None) -> Network:
    """:func:`build_network` without parameters, for weights that are to be loaded.

    ``precision`` may be another than that of the training: "bf16" predicts, and trains nothing.
    """
    chosen, precision = select(device), precision or config.train.precision
    require_precision(chosen, precision)
    network = Network(config.model, config.data, load_tree(config.data.tree), chosen, precision)
    uneven = [layer for layer in network.layers()[:-1] if layer.outputs % _BFLOAT16_OUTPUTS]
    if precision == "bf16" and uneven:
        raise InputError(
            f"precision 'bf16': layer {uneven[0].name} has {uneven[0].outputs} outputs, expected a multiple of "
            f"{_BFLOAT16_OUTPUTS} (two a maxout unit); take fp32 or tf32"
        )
    return network


def build_network(config: Config, device: str | Device | None = None) -> Network:
    """A network with fresh parameters, by configuration.

    Args:
        config: sections model, data and train (``init``, ``seed``, ``precision``) matter.
        device: name or device; None asks ``GZKERN_DEVICE``.

    Raises:
        InputError: the configuration describes no network, or the device is not there.

    >>> import gzkern
    >>> gzkern.build_network(gzkern.load_config("paper"), "cpu")
    <Network: 42,377,125 parameters in 4 convolutions and 3 dense layers; 37 answers of galaxy_zoo_2; fp32 on cpu>
    """
    network = empty_network(config, device)
    network.initialise(config.train.init, config.train.seed)
    return network
