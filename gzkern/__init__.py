"""The network that won the Galaxy Challenge, from hand-written kernels up.

The examples of this package's docstrings run in the folder in which ``make demo`` has run:

>>> import gzkern
>>> run = gzkern.load("demo/run")
>>> from gzkern.data.pack import open_pack
>>> images = open_pack("demo/pack").images
>>> run.predict(images[:3]).shape
(3, 37)

Importing this package computes nothing and imports neither Numba nor anything of a GPU.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # what editors and type checkers see; at run time each is imported when it is first asked for
    from .config import Config, load_config
    from .errors import GzkernError, InputError
    from .models.network import Network, build_network
    from .runs.run import Run, load
    from .training.loop import train

__version__ = "0.1.0"

__all__ = [
    "Config",
    "GzkernError",
    "InputError",
    "Network",
    "Run",
    "__version__",
    "build_network",
    "load",
    "load_config",
    "train",
]

_MODULES = {
    "Config": "config",
    "GzkernError": "errors",
    "InputError": "errors",
    "Network": "models.network",
    "Run": "runs.run",
    "build_network": "models.network",
    "load": "runs.run",
    "load_config": "config",
    "train": "training.loop",
}

if not TYPE_CHECKING:  # else a type checker would take any name for one of this package

    def __getattr__(name: str) -> Any:
        if name in _MODULES:
            return getattr(importlib.import_module(f".{_MODULES[name]}", __name__), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
