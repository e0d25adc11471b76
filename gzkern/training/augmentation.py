"""The choice of where a training perturbs its images, and by how many threads."""

from __future__ import annotations

from ..config import Config
from ..core.processes import cores
from ..data.dataset import Dataset
from ..data.encoded import EncodedImages
from ..device import MOST_WORKERS, Device, KernelDevice
from ..errors import InputError
from .memory import step_memory

AUGMENT_ON = ("auto", "device", "cpu")
"""Places where images may be perturbed."""

_MOST_OF_MEMORY = 0.95  # that images and a step may take; the driver's and CuPy's own is not counted


def augmenting_device(asked: str, config: Config, device: Device, dataset: Dataset) -> str:
    """Decide where images are perturbed.

    Args:
        asked: one of ``AUGMENT_ON``.
        config: of the training.
        device: that trains.
        dataset: its images.

    Returns:
        "device" or "cpu".

    Raises:
        InputError: no such place, or the device cannot hold the images.
    """
    if asked not in AUGMENT_ON:
        raise InputError(f"--augment-on {asked!r}: expected {', '.join(AUGMENT_ON)}")
    if isinstance(dataset.images, EncodedImages):  # the device would need all of them decoded at once
        if asked == "device":
            raise InputError("--augment-on device: the images are too many to be decoded into memory; pack them first")
        return "cpu"
    if not isinstance(device, KernelDevice):
        if asked == "device":
            raise InputError("--augment-on device: device 'cpu' augments on the CPU anyway; leave it out")
        return "cpu"
    if asked == "cpu":
        return "cpu"
    needed, free = dataset.images.nbytes, device.backend.free_bytes()
    fits = needed + step_memory(config, device.backend.limits).total <= _MOST_OF_MEMORY * free
    if asked == "device" and not fits:
        raise InputError(
            f"--augment-on device: the images take {needed / 2**30:.1f} GiB, and the device has {free / 2**30:.1f} GiB "
            "free; leave it out, and the CPU augments"
        )
    return "device" if fits else "cpu"


def augmenting_threads(workers: int | None, device: Device) -> int:
    """Decide how many threads augment on the CPU.

    Args:
        workers: asked for; None takes all cores but one for a GPU, else one.
        device: that trains.

    Raises:
        InputError: below 0, or more than threads there may be.
    """
    if workers is None:  # a GPU leaves the CPU to them, but for the thread that launches; elsewhere one is fast enough
        return max(1, cores() - 1) if device.name == "cuda" else 1
    if not 0 <= workers <= MOST_WORKERS:
        raise InputError(f"--workers {workers}: expected auto, or 0 to {MOST_WORKERS} threads")
    return workers
