"""The lines that ``gzkern info`` prints, from the dictionaries of :mod:`gzkern.info`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def machine_text(info: dict[str, Any]) -> str:
    """Format ``info.describe()`` as lines."""
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
    """A table of kernel versions: a row a layer and pass, a column a precision; two versions where batches differ."""
    rows = convolutions["choices"]
    batches, precisions = (list(dict.fromkeys(row[key] for row in rows)) for key in ("batch", "precision"))
    cells: dict[tuple[str, str], dict[str, list[str]]] = {}
    for row in rows:
        versions = cells.setdefault((row["layer"], row["pass"]), {}).setdefault(row["precision"], [])
        version = row["version"] if row["computed_in"] == row["precision"] else row["computed_in"]
        if version not in versions:
            versions.append(version)
    return [
        f"versions that {convolutions['device']} takes for the published network's convolutions, at batch "
        f"{' and '.join(map(str, batches))}:",
        _line("", precisions),
        *(
            _line(f"{layer} {name}", [", ".join(row.get(precision, [])) for precision in precisions])
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


def memory_text(memory: dict[str, Any]) -> str:
    """Format ``info.describe_memory()`` as lines."""
    shared = f"the step's arrays, {_mb(memory['arena_without_sharing'])} without sharing"
    rows = {"weights": "", "velocities": "", "staging_buffers": "the next batches"}
    rows |= {"validation": "a pass over held-out images", "arena": shared, "total": "beside all images"}
    available, largest = memory["available"], memory["largest_batch"]
    return "\n".join(
        [
            f"a training step of {memory['batch']} images in {memory['precision']} on {memory['device']}: "
            f"{memory['launches']} launches",
            *(f"{name.replace('_', ' '):16}{_mb(memory[name]):>12}  {what}".rstrip() for name, what in rows.items()),
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
