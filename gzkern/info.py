"""What this machine has for gzkern: its devices, or what each lacks; versions and folders."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from . import __version__
from .config import Config
from .core import compile_cache as cache
from .core import environment
from .cuda.conv2d.choice import PRECISIONS
from .errors import GzkernError, InputError
from .models.algorithms import chosen
from .runtime import cuda_backend, nvrtc, source
from .runtime import gpu as device
from .runtime.backend import Limits
from .runtime.emulator.backend import LIMITS
from .training.memory import largest_batch, step_memory, with_batch

BATCHES = (16, 256)
"""Of images: as published, and large."""

_CUPY = ("cupy-cuda13x", "cupy-cuda12x", "cupy")


def describe() -> dict[str, Any]:
    """All of it; what is missing is None among the versions, and a sentence under "missing" among the devices."""
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
    """What a training step of so many images keeps in memory, on the first GPU, else one of the emulated limits."""
    batch = config.train.batch if batch is None else batch
    if batch < 1:
        raise InputError(f"--batch {batch}: expected at least 1 image")
    name, limits = _device_of_choices()
    available = None if device.missing() else device.describe(0)["memory_bytes"]
    memory = step_memory(with_batch(config, batch), limits)
    return {
        **{"device": name, "precision": config.train.precision, "batch": batch, "launches": memory.launches},
        **{"weights": memory.weights, "velocities": memory.velocities, "rings": memory.rings},
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


def render_memory(memory: dict[str, Any]) -> str:
    """The same as lines to read."""
    shared = f"the step's arrays, {_mb(memory['arena_without_sharing'])} without sharing"
    rows = {"weights": "", "velocities": "", "rings": "the next batches", "validation": "a pass over held-out images"}
    rows |= {"arena": shared, "total": "beside all images"}
    available, largest = memory["available"], memory["largest_batch"]
    return "\n".join(
        [
            f"a training step of {memory['batch']} images in {memory['precision']} on {memory['device']}: "
            f"{memory['launches']} launches",
            *(f"{name:12}{_mb(memory[name]):>12}  {what}".rstrip() for name, what in rows.items()),
            *([f"with no image beside it, a step of about {largest} fits into {_mb(available)}"] if available else []),
            "",
            "      offset         bytes  launches  made by",
            *(
                f"{p['offset']:12,}{p['bytes']:14,}{p['first']:6}–{p['last']:<4} {p['made_by']}"
                for p in memory["places"]
            ),
        ]
    )


def _mb(count: int) -> str:
    return f"{count / 1e6:,.1f} MB"


def render(info: dict[str, Any]) -> str:
    """The same as lines to read."""
    packages = {"NumPy": "numpy", "Numba": "numba", "CuPy": "cupy", "NVRTC": "nvrtc"}
    versions = [f"{label} {info[key] or '–'}" for label, key in packages.items()]
    cpu, emulated, cuda = (info["devices"][name] for name in ("cpu", "emulated", "cuda"))
    lines = [
        f"gzkern {info['gzkern']}: Python {info['python']}, {', '.join(versions)}",
        "",
        f"cpu       {cpu['processor']}, {cpu['cores']} cores, {cpu['threads'] or '–'} threads",
        f"emulated  {emulated.get('compiler') or 'not here: ' + emulated['missing']}",
        *(_gpu(number, gpu) for number, gpu in enumerate(cuda.get("gpus", []))),
        *([f"cuda      not here: {cuda['missing']}"] if "missing" in cuda else []),
        "",
        f"kernels   {info['kernels']['folder']}: {info['kernels']['kernels']} in {info['kernels']['files']} files",
        f"cache     {info['cache']}",
        "",
        *_choices(info["convolutions"]),
    ]
    return "\n".join(lines)


def _choices(convolutions: dict[str, Any]) -> list[str]:
    """The versions by layer and pass, a column a precision; two where they differ by batch."""
    cells: dict[tuple[str, str], dict[str, list[str]]] = {}
    for row in convolutions["choices"]:
        versions = cells.setdefault((row["layer"], row["pass"]), {}).setdefault(row["precision"], [])
        version = row["version"] if row["computed_in"] == row["precision"] else row["computed_in"]
        if version not in versions:
            versions.append(version)
    batches = " and ".join(map(str, BATCHES))
    return [
        f"versions that {convolutions['device']} takes for the published network's convolutions, at batch {batches}:",
        _line("", PRECISIONS),
        *(
            _line(f"{layer} {name}", [", ".join(row.get(precision, [])) for precision in PRECISIONS])
            for (layer, name), row in cells.items()
        ),
    ]


def _line(title: str, cells: Sequence[str]) -> str:
    return f"{title:24}{''.join(f'{cell:16}' for cell in cells)}".rstrip()


def _gpu(number: int, gpu: dict[str, Any]) -> str:
    flops, bandwidth = gpu["peak_fp32_tflops"], gpu["peak_memory_gb_s"]
    peaks = f"{flops:.1f} TFLOP/s in FP32 and {bandwidth:.0f} GB/s" if flops and bandwidth else "unknown"
    indent = "\n" + " " * 10
    return (
        f"cuda:{number}    {gpu['gpu']}, compute capability {gpu['compute_capability']} ({gpu['architecture']}), "
        f"driver for CUDA {gpu['driver']}"
        f"{indent}{gpu['memory_bytes'] / 2**30:.1f} GiB, L2 {gpu['l2_bytes'] / 2**20:.0f} MiB, "
        f"{gpu['multiprocessors']} multiprocessors at {gpu['clock_mhz']:.0f} MHz, memory at "
        f"{gpu['memory_clock_mhz']:.0f} MHz{indent}peaks by these clocks: {peaks}"
    )


def _cpu() -> dict[str, Any]:
    from .device import select, set_threads

    try:
        threads = set_threads(select("cpu"), None)
    except ImportError:  # of Numba, without which the other devices work
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
    reason = device.missing()
    return {"missing": reason} if reason else {"gpus": device.describe_all()}


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
    """What computes each pass of the published network's convolutions, on the first GPU, else the emulated device.

    A choice has the version and its tile (None where it takes every size), and the precision that it computes in.
    """
    name, limits = _device_of_choices()
    choices = [
        {
            **{"layer": each.layer, "pass": each.pass_name, "batch": each.batch, "precision": each.precision},
            **{"version": each.choice.version, "computed_in": each.choice.precision},
            "tile": None if each.choice.tile is None else asdict(each.choice.tile),
        }
        for each in chosen(limits, BATCHES, PRECISIONS)
    ]
    return {"device": name, "choices": choices}


def _device_of_choices() -> tuple[str, Limits]:
    """The first GPU, else the emulated device."""
    return (
        ("the emulated device (like an H100)", LIMITS)
        if device.missing()
        else ("cuda:0", cuda_backend.backend(0).limits)
    )


def _cache() -> str:
    try:
        return str(cache.folder("."))
    except GzkernError as error:
        return str(error)
