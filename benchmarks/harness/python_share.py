"""The share of a call on the CPU that is spent outside of the operations: tape, layers, optimiser."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from types import ModuleType
from typing import Any

import gzkern.cpu


def python_share(call: Callable[[], Any]) -> float:
    """Return the share of one call's time that passes in no function of ``gzkern.cpu``'s modules."""
    with _clocked() as inside:
        begin = time.perf_counter()
        call()
        whole = time.perf_counter() - begin
    return 1 - sum(inside) / whole


@contextmanager
def _clocked() -> Iterator[list[float]]:
    """Yield the seconds of every operation that is called meanwhile; one that another calls is part of that."""
    seconds: list[float] = []
    within = False

    def clocked(function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def timed(*arguments: Any, **options: Any) -> Any:
            nonlocal within
            if within:
                return function(*arguments, **options)
            within, begin = True, time.perf_counter()
            try:
                return function(*arguments, **options)
            finally:
                seconds.append(time.perf_counter() - begin)
                within = False

        return timed

    functions = [(module, name, function) for module in _operations() for name, function in _functions(module)]
    for module, name, function in functions:
        setattr(module, name, clocked(function))
    try:
        yield seconds
    finally:
        for module, name, function in functions:
            setattr(module, name, function)


def _operations() -> list[ModuleType]:
    found = pkgutil.iter_modules(gzkern.cpu.__path__, "gzkern.cpu.")
    return [importlib.import_module(module.name) for module in found if not module.ispkg]


def _functions(module: ModuleType) -> list[tuple[str, Callable[..., Any]]]:
    """Those that the module defines, not those that it imports."""
    return [(n, f) for n, f in inspect.getmembers(module, inspect.isfunction) if f.__module__ == module.__name__]
