"""The environment that a run's bits depend on beside its configuration: machine, versions, threads, data."""

from __future__ import annotations

import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from .. import __version__

_PACKAGES = ("numpy", "numba", "llvmlite", "pillow", "simplejpeg", "astropy", "sep", "safetensors")

BIT_EXACT = (
    "machine",
    "processor",
    "device",
    "device_facts",
    "precision",
    "augment_on",
    "objects",
    "threads",
    "python",
    "packages",
)
"""The entries whose change may change the bits of a resumed run; any number of workers gives the same."""


def describe(**facts: Any) -> dict[str, Any]:
    """This machine and its packages, and the given facts of the run."""
    return {
        "gzkern": __version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
        "processor": _processor(),
        "system": f"{platform.system()} {platform.release()}",
        "packages": {name: installed_version(name) for name in _PACKAGES},
        "command": sys.argv,
        **facts,
    }


def installed_version(package: str) -> str | None:
    """Installed version of a package; None where it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _processor() -> str:
    """Model name of the processor, as far as the system tells."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            for line in lines:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or "unknown"
