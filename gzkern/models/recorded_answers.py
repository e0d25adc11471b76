"""Answers by recorded programs, one for each number of images, on the devices that launch kernels."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..autograd.tape import Tape, Variable
from ..bfloat16 import to_bfloat16
from ..cuda.graph import Program, Recorder
from ..cuda.launch import ceil_div
from ..device import Device
from ..errors import OutOfMemory

if TYPE_CHECKING:
    from .network import Network

_MOST_PROGRAMS = 4  # each has an arena
_BFLOAT16_BATCH = 8  # images that its kernels load at once


@dataclass(frozen=True)
class RecordedPass:
    """A program, and the arrays that it reads."""

    program: Program
    inputs: dict[str, Any]


class RecordedAnswers:
    """What a network answers to crops, or to images that are warped on the device.

    A batch that another program takes with less than half of it empty is filled up to that one; the program that was
    used longest ago makes room for a new one.
    """

    def __init__(self, network: Network):
        self._network = network
        self._programs: OrderedDict[tuple[int, tuple[Any, ...]], RecordedPass] = OrderedDict()
        self._weights = {name: self._as_read(name, array) for name, array in network.parameters.items()}

    def of_crops(self, crops: np.ndarray) -> np.ndarray:
        """Crops (B, 2, T, T, 3), uint8 or float32 in [0, 1], to answers (B, A)."""
        return self._answers({"crops": crops})

    def of_images(self, images: np.ndarray, matrices: np.ndarray) -> np.ndarray:
        """Images (B, H, W, 3) uint8 and their matrices (B, 2, 2, 3), as ``augment.geometry`` makes them, to (B, A)."""
        return self._answers({"images": images, "matrices": np.ascontiguousarray(matrices, np.float64)})

    def record(self, shapes: dict[str, tuple[tuple[int, ...], Any]]) -> tuple[Recorder, dict[str, Any], Any]:
        """Recorder, input arrays and the answers' buffer of a pass over inputs of these shapes and dtypes."""
        network = self._network
        backend = network.device.backend
        inputs = {name: backend.asarray(np.zeros(shape, dtype)) for name, (shape, dtype) in shapes.items()}
        recorder = Recorder(backend)
        tape = Tape(Device(network.device.name, recorder), recording=False, precision=network.precision)
        seen = {name: recorder.outside(array, name) for name, array in inputs.items()}
        variables = {name: Variable(recorder.outside(array, name)) for name, array in self._weights.items()}
        patches = network.patches(tape, Variable(seen["crops"])) if "crops" in seen else self._warped(tape, **seen)
        return recorder, inputs, network.answers(tape, patches, variables).value

    def _answers(self, arrays: dict[str, np.ndarray]) -> np.ndarray:
        batch = len(next(iter(arrays.values())))
        backend = self._network.device.backend
        recorded = self.prepare(batch, arrays)
        for name, array in arrays.items():
            backend.write(recorded.inputs[name][:batch], array)
        recorded.program.play()
        return np.ascontiguousarray(backend.asnumpy(recorded.program.outputs["answers"])[:, :batch].T)

    def prepare(self, batch: int, arrays: dict[str, np.ndarray]) -> RecordedPass:
        """The pass for so many images, whose shapes and dtypes are those of ``arrays``; recorded if need be."""
        kind = tuple((name, array.shape[1:], array.dtype.str) for name, array in arrays.items())
        batch = ceil_div(batch, _BFLOAT16_BATCH) * _BFLOAT16_BATCH if self._network.precision == "bf16" else batch
        fitting = [key for key in self._programs if key[1] == kind and batch <= key[0] < 2 * batch]
        key = min(fitting, default=(batch, kind))
        if key not in self._programs:
            if len(self._programs) == _MOST_PROGRAMS:
                self._programs.popitem(last=False)
            try:
                recorder, inputs, answers = self.record(
                    {n: ((batch, *a.shape[1:]), a.dtype) for n, a in arrays.items()}
                )
                self._programs[key] = RecordedPass(Program(recorder, {"answers": answers}), inputs)
            except OutOfMemory as error:
                raise OutOfMemory(f"a pass of {batch} images: {error}; take a smaller batch") from error
        self._programs.move_to_end(key)
        return self._programs[key]

    def _warped(self, tape: Tape, images: Any, matrices: Any) -> Variable:
        """Patches of images as they are: no shift of colour."""
        B = images.shape[0]
        dtype = np.uint16 if tape.precision == "bf16" else np.float32
        network, device = self._network, tape.device
        with tape.named("warp"):
            indices = device.asarray(np.arange(B).reshape(1, B))
            shifts, step = device.asarray(np.zeros((1, B, 3), np.float32)), device.asarray(np.zeros(1, np.int64))
            matrices = matrices.reshape(1, *matrices.shape)
            tables = indices, matrices, shifts, step
            return Variable(device.warp.patches(images, *tables, network.target, network.patch, dtype))

    def _as_read(self, name: str, array: Any) -> Any:
        """A parameter as the products read it: by bf16, weights are rounded once."""
        last = f"{self._network.dense[-1].name}.weight"
        if self._network.precision != "bf16" or not name.endswith(".weight") or name == last:
            return array
        backend = self._network.device.backend
        return backend.asarray(to_bfloat16(backend.asnumpy(array)))
