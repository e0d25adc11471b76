"""Operations on images: their viewpoints, and their augmentation on the device."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np

from gzkern.augment.tables import tables
from gzkern.augment.warp import warp_reference
from gzkern.config import load_config
from gzkern.core.shapes import FORWARD, VIEWS, patch_extent
from gzkern.cpu import viewpoints as viewpoints_oracle
from gzkern.device import Device, kernel_device
from gzkern.errors import InputError

from .. import operation_counts as counts
from ..verify import bound
from .operation import BACKWARD, Arrays, Call, Expected, OpProblem, normal, some_images, within_ulps


def viewpoints(batch: int) -> Iterator[OpProblem]:
    """Yield the 16 patches of crops of float32 and of bytes, and their gradient."""
    target = load_config("paper").data.target
    extent = patch_extent(target)
    crops = np.random.default_rng(1).random((batch, 2, target, target, 3), np.float32)
    bytes_ = np.random.default_rng(2).integers(0, 256, crops.shape).astype(np.uint8)
    gradient = normal(3, extent, extent, VIEWS * batch)

    def patches(torch: Any, crops: Any) -> Any:
        planes = crops.permute(1, 0, 4, 2, 3)
        return torch.cat(
            [
                torch.rot90(mirrored, quarter, (2, 3))[:, :, :extent, :extent]
                for crop in planes
                for mirrored in (crop, crop.flip(3))
                for quarter in range(4)
            ]
        )

    def backward(torch: Any, **a: Any) -> Call:
        x = a["crops"].requires_grad_()
        with torch.enable_grad():
            y = patches(torch, x)
        return lambda: torch.autograd.grad(y, x, a["gradient"], retain_graph=True)[0].flatten()

    for variant, array in (("float32", crops), ("uint8", bytes_)):
        yield OpProblem(
            "viewpoints", FORWARD, batch, counts.viewpoints_work(batch, target, extent, array.itemsize),
            {"crops": array}, lambda d, a: lambda: d.operations.viewpoints.forward(a.crops, extent),
            lambda a: within_ulps(viewpoints_oracle.forward_oracle(_scaled(a.crops), extent)), variant=variant,
            torch=(lambda torch, crops: lambda: patches(torch, crops)) if variant == "float32" else
                  (lambda torch, crops: lambda: patches(torch, crops.float() / 255)),
        )  # fmt: skip
    yield OpProblem(
        "viewpoints", BACKWARD, batch, counts.viewpoints_work(batch, target, extent),
        {"crops": crops, "gradient": gradient},
        lambda d, a: lambda: d.operations.viewpoints.backward(a.gradient, target),
        lambda a: (
            viewpoints_oracle.backward(a.gradient, target).ravel(),
            bound("fp32", VIEWS, viewpoints_oracle.backward(a.gradient**2, target), 0).ravel(),
        ),
        torch=backward, sample=np.ravel,
    )  # fmt: skip


def warp(batch: int) -> Iterator[OpProblem]:
    """Yield the augmented patches of whole images."""
    config = load_config("paper")
    target, size = config.data.target, (424, 424)
    extent = patch_extent(target)
    examples = np.arange(batch)
    matrices, shifts = tables(examples, examples, 0, config.augment, config.data, size)
    arrays: Arrays = {
        "images": np.random.default_rng(1).integers(0, 256, (batch, *size, 3)).astype(np.uint8),
        "indices": examples[None],
        "matrices": matrices[None],
        "shifts": shifts[None],
        "step": np.zeros(1, np.int64),
    }

    def call(d: Device, a: SimpleNamespace) -> Call:
        if d.name == "cpu":
            raise InputError("the CPU warps crops, in gzkern.augment")
        return lambda: kernel_device(d).operations.warp.patches(
            a.images, a.indices, a.matrices, a.shifts, a.step, target, extent
        )

    def exact(a: SimpleNamespace) -> Expected:
        """The views of the first image that is sampled; eight roundings of values up to 1."""
        crops = warp_reference(a.images[0], a.matrices[0, 0], target, a.shifts[0, 0])
        return some_images(viewpoints_oracle.forward_oracle(crops[None], extent)), 8 * 2.0**-24

    counted = counts.warp_work(batch, target, extent)
    yield OpProblem("warp", "patches", batch, counted, arrays, call, exact, sample=some_images)


def _scaled(crops: np.ndarray) -> np.ndarray:
    return crops / 255 if crops.dtype == np.uint8 else crops
