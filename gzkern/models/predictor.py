"""Answers of a network by captured programs, one for each number of images, safe from several threads."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from threading import Lock
from typing import Any

import numpy as np

from ..augment.warp import require_tables
from ..autograd.tape import Tape, Variable
from ..core import arguments
from ..device import KernelDevice, kernel_device
from ..errors import InputError, OutOfMemory
from ..runtime.capture import CapturingBackend, Program
from .network import Network, padded_batch

BATCH = 64
"""Images of one network pass in prediction, where nothing else is said."""

_MOST_PROGRAMS = 4  # each has an arena

Shapes = dict[str, tuple[tuple[int, ...], Any]]
"""Shape and dtype of each input of a pass, by name."""


@dataclass(frozen=True)
class CapturedPass:
    """A program, and the arrays that it reads."""

    program: Program
    inputs: dict[str, Any]


class Predictor:
    """The answers of a network to crops, or to images that its device warps.

    On a device that runs kernels, a pass is captured once for each padded number of images and replayed; the least
    recently used of a few programs makes room for a new one. On the CPU a pass is computed eagerly. Calls from several
    threads take turns. Weights that the network was given since the last call are used; ``load_state`` must not run
    beside a call.

    >>> import gzkern
    >>> predictor = Predictor(gzkern.build_network(gzkern.load_config("laptop"), "cpu"))
    >>> predictor.predict(np.zeros((2, 2, 69, 69, 3), np.uint8)).shape
    (2, 37)
    """

    def __init__(self, network: Network):
        self.network = network
        self._lock = Lock()
        self._passes: OrderedDict[tuple[int, tuple[Any, ...]], CapturedPass] = OrderedDict()
        self._weights: dict[str, Any] = {}
        self._seen: tuple[Any, ...] = ()  # the version of the parameters, and their arrays

    def predict(self, crops: np.ndarray) -> np.ndarray:
        """Probabilities (B, A) float32 of the answers; arguments and errors as ``Network.predict``."""
        with self._lock:
            if not isinstance(self.network.device, KernelDevice):
                return self.network.predict(crops)
            self.network.require_crops(crops)
            pixels = crops if crops.dtype == np.uint8 else crops.astype(np.float32, copy=False)
            return self._answers({"crops": pixels})

    def predict_images(self, images: np.ndarray, matrices: np.ndarray) -> np.ndarray:
        """Probabilities (B, A) float32 of the answers, from images that the device warps; not on the CPU.

        Args:
            images: (B, H, W, 3) uint8.
            matrices: (B, 2, 2, 3) float64, as ``augment.geometry.crop_matrices`` gives them.

        Raises:
            InputError: the device is the CPU, or arrays have other shapes.
        """
        self._require_warp(matrices)
        arguments.shape("network", "images", images, (len(matrices), None, None, 3))
        require_tables(np.arange(len(matrices)), matrices, len(images))
        with self._lock:
            return self._answers({"images": images, "matrices": np.ascontiguousarray(matrices, np.float64)})

    def predict_rows(self, images: Any, rows: np.ndarray, matrices: np.ndarray) -> np.ndarray:
        """:meth:`predict_images` of rows of images (n, H, W, 3) uint8 on the device; rows (B,) int64 in [0, n)."""
        self._require_warp(matrices)
        arguments.shape("network", "rows", rows, (len(matrices),))
        require_tables(rows, matrices, len(images))
        with self._lock:
            return self._answers({"rows": rows, "matrices": np.ascontiguousarray(matrices, np.float64)}, images)

    def capture(self, shapes: Shapes, images: Any = None) -> tuple[CapturingBackend, dict[str, Any], Any]:
        """Capture a pass over inputs of these shapes and dtypes; nothing runs. One thread at a time may call it.

        Args:
            shapes: of the inputs: crops; or images and matrices; or rows and matrices.
            images: those whose rows are an input.

        Returns:
            The launches, the input arrays by name, and the buffer of the answers.
        """
        self._refresh()
        network, device = self.network, kernel_device(self.network.device)
        inputs = {name: device.asarray(np.zeros(shape, dtype)) for name, (shape, dtype) in shapes.items()}
        launches = CapturingBackend(device.backend)
        tape = Tape(KernelDevice(device.name, launches), recording=False, precision=network.precision)
        seen = {name: launches.external(array, name) for name, array in inputs.items()}
        variables = {name: Variable(launches.external(array, name)) for name, array in self._weights.items()}
        if "rows" in seen:
            seen["images"] = launches.external(images, "images")
        patches = network.patches(tape, Variable(seen["crops"])) if "crops" in seen else self._warped(tape, **seen)
        return launches, inputs, network.answers(tape, patches, variables).value

    def prepare(self, batch: int, arrays: dict[str, np.ndarray], images: Any = None) -> CapturedPass:
        """The pass for so many images, whose shapes and dtypes are those of ``arrays``; captured if need be.

        One thread at a time may call it.
        """
        self._refresh()
        kind = tuple((name, array.shape[1:], array.dtype.str) for name, array in arrays.items())
        batch = padded_batch(batch, self.network.precision)
        key = batch, (*kind, id(images))  # which a captured pass keeps alive
        if key not in self._passes:
            if len(self._passes) == _MOST_PROGRAMS:
                self._passes.popitem(last=False)
            try:
                shapes = {name: ((batch, *array.shape[1:]), array.dtype) for name, array in arrays.items()}
                launches, inputs, answers = self.capture(shapes, images)
                self._passes[key] = CapturedPass(Program(launches, {"answers": answers}), inputs)
            except OutOfMemory as error:
                raise OutOfMemory(f"a pass of {batch} images: {error}; take a smaller batch") from error
        self._passes.move_to_end(key)
        return self._passes[key]

    def _answers(self, arrays: dict[str, np.ndarray], images: Any = None) -> np.ndarray:
        batch, backend = len(next(iter(arrays.values()))), kernel_device(self.network.device).backend
        captured = self.prepare(batch, arrays, images)
        for name, array in arrays.items():
            backend.write(captured.inputs[name][:batch], array)
        captured.program.play()
        return np.array(backend.asnumpy(captured.program.outputs["answers"])[:, :batch].T, order="C")

    def _refresh(self) -> None:
        """Forget the programs if the network has other weights than those that they read."""
        network = self.network
        seen = (network.version, *network.parameters.values())
        unchanged = len(seen) == len(self._seen) and all(a is b for a, b in zip(seen[1:], self._seen[1:], strict=True))
        if unchanged and (seen[0] == self._seen[0] or network.precision != "bf16"):  # others read them where they lie
            return
        self._passes.clear()
        self._weights, self._seen = network.operands(), seen

    def _warped(self, tape: Tape, images: Any, matrices: Any, rows: Any = None) -> Variable:
        """Patches of images, or of rows of them, without a shift of colour."""
        B = matrices.shape[0]
        dtype = np.uint16 if tape.precision == "bf16" else np.float32
        network, device = self.network, kernel_device(tape.device)
        with tape.named("warp"):
            indices = device.asarray(np.arange(B).reshape(1, B)) if rows is None else rows.reshape(1, B)
            shifts, step = device.asarray(np.zeros((1, B, 3), np.float32)), device.asarray(np.zeros(1, np.int64))
            matrices = matrices.reshape(1, *matrices.shape)
            tables = indices, matrices, shifts, step
            patches = device.operations.warp.patches(images, *tables, network.target, network.patch, dtype)
            return Variable(patches)

    def _require_warp(self, matrices: np.ndarray) -> None:
        if not isinstance(self.network.device, KernelDevice):
            raise InputError("network: device 'cpu' warps no images; give crops to predict")
        arguments.shape("network", "matrices", matrices, (None, 2, 2, 3))
        self.network.require_parameters()
