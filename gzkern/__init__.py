"""The network that won the Galaxy Challenge, from hand-written kernels up.

>>> import gzkern
>>> config = gzkern.load_config("laptop")
>>> run = gzkern.train(config, "gz2-pack", "run")   # doctest: +SKIP
>>> run.predict(images)                             # doctest: +SKIP

Importing this package computes nothing and imports neither Numba nor anything of a GPU.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_EXPORTS = {
    "Config": "config",
    "load_config": "config",
    "build_network": "models.network",
    "Network": "models.network",
    "train": "training.loop",
    "load": "runs.run",
    "Run": "runs.run",
    "GzkernError": "errors",
    "InputError": "errors",
}

__all__ = [*_EXPORTS, "__version__"]


def __getattr__(name: str) -> Any:
    if name in _EXPORTS:
        return getattr(importlib.import_module(f".{_EXPORTS[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
