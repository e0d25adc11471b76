"""All cases of all kernels."""

from __future__ import annotations

import importlib
from functools import cache
from pathlib import Path

from harness import Case


@cache
def all_cases() -> tuple[Case, ...]:
    """The cases of every ``cases_<op>.py`` in this folder, by operation; their ids differ."""
    modules = sorted(path.stem for path in Path(__file__).parent.rglob("cases_*.py"))
    cases = tuple(case for module in modules for case in importlib.import_module(module).cases())
    ids = [case.id for case in cases]
    assert len(set(ids)) == len(ids), f"two cases called {max(ids, key=ids.count)}"
    return cases
