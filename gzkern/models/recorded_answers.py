"""Answers by recorded programs, one for each number of images, on the devices that launch kernels."""

from __future__ import annotations

import weakref
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
_EVEN = 64  # images
_BFLOAT16_BATCH = 8  # images that its kernels load at once


@dataclass(frozen=True)
class RecordedPass:
    """A program, and the arrays that it reads."""

    program: Program
    inputs: dict[str, Any]


class RecordedAnswers:
    """What a network answers to crops, or to images that are warped on the device.

    A batch is filled up to a size that there are few of, so that its bits do not depend on what was asked before; the
    program that was used longest ago makes room for a new one. Not for two threads at once.
    """

    def __init__(self, network: Network):
        self._network = weakref.proxy(network)  # which holds this: its memory goes with it
        self._programs: OrderedDict[tuple[int, tuple[Any, ...]], RecordedPass] = OrderedDict()
        self._weights = {name: self._as_read(name, array) for name, array in network.parameters.items()}

    def of_crops(self, crops: np.ndarray) -> np.ndarray:
        """Crops (B, 2, T, T, 3), uint8 or float32 in [0, 1], to answers (B, A)."""
        return self._answers({"crops": crops})

    def of_images(self, images: np.ndarray, matrices: np.ndarray) -> np.ndarray:
        """Images (B, H, W, 3) uint8 and their matrices (B, 2, 2, 3), as ``augment.geometry`` makes them, to (B, A)."""
        return self._answers({"images": images, "matrices": np.ascontiguousarray(matrices, np.float64)})

    def of_rows(self, images: Any, rows: np.ndarray, matrices: np.ndarray) -> np.ndarray:
        """Rows of images (n, H, W, 3) uint8 that lie on the device, and their matrices (B, 2, 2, 3), to (B, A)."""
        return self._answers({"rows": rows, "matrices": np.ascontiguousarray(matrices, np.float64)}, images)

    def record(
        self, shapes: dict[str, tuple[tuple[int, ...], Any]], images: Any = None
    ) -> tuple[Recorder, dict[str, Any], Any]:
        """Recorder, input arrays and the answers' buffer of a pass over inputs of these shapes and dtypes.

        ``images`` are those whose rows are an input.
        """
        network = self._network
        backend = network.device.backend
        inputs = {name: backend.asarray(np.zeros(shape, dtype)) for name, (shape, dtype) in shapes.items()}
        recorder = Recorder(backend)
        tape = Tape(Device(network.device.name, recorder), recording=False, precision=network.precision)
        seen = {name: recorder.outside(array, name) for name, array in inputs.items()}
        variables = {name: Variable(recorder.outside(array, name)) for name, array in self._weights.items()}
        if "rows" in seen:
            seen["images"] = recorder.outside(images, "images")
        patches = network.patches(tape, Variable(seen["crops"])) if "crops" in seen else self._warped(tape, **seen)
        return recorder, inputs, network.answers(tape, patches, variables).value

    def _answers(self, arrays: dict[str, np.ndarray], images: Any = None) -> np.ndarray:
        batch = len(next(iter(arrays.values())))
        backend = self._network.device.backend
        recorded = self.prepare(batch, arrays, images)
        for name, array in arrays.items():
            backend.write(recorded.inputs[name][:batch], array)
        recorded.program.play()
        return np.array(backend.asnumpy(recorded.program.outputs["answers"])[:, :batch].T, order="C")

    def prepare(self, batch: int, arrays: dict[str, np.ndarray], images: Any = None) -> RecordedPass:
        """The pass for so many images, whose shapes and dtypes are those of ``arrays``; recorded if need be."""
        kind = tuple((name, array.shape[1:], array.dtype.str) for name, array in arrays.items())
        batch = _filled_up(batch, _BFLOAT16_BATCH if self._network.precision == "bf16" else 1)
        key = batch, (*kind, id(images))  # which a recorded pass keeps alive
        if key not in self._programs:
            if len(self._programs) == _MOST_PROGRAMS:
                self._programs.popitem(last=False)
            try:
                shapes = {name: ((batch, *array.shape[1:]), array.dtype) for name, array in arrays.items()}
                recorder, inputs, answers = self.record(shapes, images)
                self._programs[key] = RecordedPass(Program(recorder, {"answers": answers}), inputs)
            except OutOfMemory as error:
                raise OutOfMemory(f"a pass of {batch} images: {error}; take a smaller batch") from error
        self._programs.move_to_end(key)
        return self._programs[key]

    def _warped(self, tape: Tape, images: Any, matrices: Any, rows: Any = None) -> Variable:
        """Patches of images, or of rows of them, as they are: no shift of colour."""
        B = matrices.shape[0]
        dtype = np.uint16 if tape.precision == "bf16" else np.float32
        network, device = self._network, tape.device
        with tape.named("warp"):
            indices = device.asarray(np.arange(B).reshape(1, B)) if rows is None else rows.reshape(1, B)
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


def _filled_up(batch: int, least: int) -> int:
    """A power of two, or a multiple of 64: a new size is recorded, and may be compiled, once."""
    if batch > _EVEN:
        return ceil_div(batch, _EVEN) * _EVEN
    return max(1 << (batch - 1).bit_length(), least)
