"""Describe for ``gzkern info`` the devices of this machine, what each lacks, versions, folders, memory of a step."""

from __future__ import annotations

import os
import platform
from dataclasses import asdict
from typing import Any

from . import __version__
from .config import Config
from .core import compile_cache, environment
from .cuda.conv2d.choice import PRECISIONS
from .errors import GzkernError, InputError
from .models.algorithms import chosen
from .runtime import cuda_backend, gpu, nvrtc, source
from .runtime.backend import Limits
from .runtime.emulator.backend import LIMITS
from .training.memory import largest_batch, step_memory, with_batch

_BATCHES = (16, 256)  # images: as published, and large
_CUPY = ("cupy-cuda13x", "cupy-cuda12x", "cupy")


def describe() -> dict[str, Any]:
    """Describe devices, versions and folders.

    A version that is missing is None. A device that is missing has a sentence under "missing".
    """
    return {
        "gzkern": __version__,
        "python": platform.python_version(),
        "numpy": environment.installed_version("numpy"),
        "numba": environment.installed_version("numba"),
        "cupy": next(filter(None, map(environment.installed_version, _CUPY)), None),
        "nvrtc": _nvrtc(),
        "devices": {"cpu": _cpu(), "emulated": _emulated(), "cuda": _cuda()},
        "kernels": _kernels(),
        "convolutions": _convolutions(),
        "cache": _cache(),
    }


def describe_memory(config: Config, batch: int | None) -> dict[str, Any]:
    """Describe the memory of a training step on the first GPU, else on the emulated device; sizes in bytes.

    Args:
        config: the network and its training.
        batch: images; None takes the configuration's.

    Raises:
        InputError: the batch is below 1, or too large for the kernels.
    """
    batch = config.train.batch if batch is None else batch
    if batch < 1:
        raise InputError(f"--batch {batch}: expected at least 1 image")
    name, limits = _device_of_choices()
    available = None if gpu.missing() else gpu.describe(0)["memory_bytes"]
    memory = step_memory(with_batch(config, batch), limits)
    return {
        **{"device": name, "precision": config.train.precision, "batch": batch, "launches": memory.launches},
        **{"weights": memory.weights, "velocities": memory.velocities, "staging_buffers": memory.staging_buffers},
        **{
            "validation": memory.validation,
            "arena": memory.arena,
            "total": memory.total,
            "arena_without_sharing": memory.made,
        },
        "available": available,
        "largest_batch": largest_batch(config, limits, available) if available else None,
        "places": [
            {"offset": p.offset, "bytes": p.block.nbytes, "first": p.first, "last": p.last, "made_by": p.block.name}
            for p in memory.places
        ],
    }


def _cpu() -> dict[str, Any]:
    from .device import select, set_threads

    try:
        threads = set_threads(select("cpu"), None)
    except ImportError:  # Numba is missing; the other devices work without it
        threads = None
    return {"processor": environment.describe()["processor"], "cores": os.cpu_count(), "threads": threads}


def _emulated() -> dict[str, Any]:
    from .runtime.emulator import compiler

    try:
        found = compiler.find()
    except InputError as error:
        return {"missing": str(error)}
    return {"compiler": f"g++ {found.version} ({found.path})"}


def _cuda() -> dict[str, Any]:
    reason = gpu.missing()
    return {"missing": reason} if reason else {"gpus": gpu.describe_all()}


def _nvrtc() -> str | None:
    return None if nvrtc.missing() else "{}.{}".format(*nvrtc.version())


def _kernels() -> dict[str, Any]:
    stems = source.stems()
    return {
        "folder": str(source.folder()),
        "files": len(stems),
        "kernels": sum(len(source.load(stem).kernels) for stem in stems),
    }


def _convolutions() -> dict[str, Any]:
    """Describe the kernel version of each convolution pass of the published network, as the device would choose.

    A choice has the version, its tile (None for a generic kernel), and the precision that it computes in.
    """
    name, limits = _device_of_choices()
    choices = [
        {
            **{"layer": each.layer, "pass": each.pass_name, "batch": each.batch, "precision": each.precision},
            **{"version": each.choice.version, "computed_in": each.choice.precision},
            "tile": None if each.choice.tile is None else asdict(each.choice.tile),
        }
        for each in chosen(limits, _BATCHES, PRECISIONS)
    ]
    return {"device": name, "choices": choices}


def _device_of_choices() -> tuple[str, Limits]:
    """Name and limits of the first GPU, else of the emulated device."""
    if gpu.missing():
        return "the emulated device (like an H100)", LIMITS
    return "cuda:0", cuda_backend.backend(0).limits


def _cache() -> str:
    try:
        return str(compile_cache.folder("."))
    except GzkernError as error:
        return str(error)
