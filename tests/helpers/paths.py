"""Folders of the tests, and the PYTHONPATH of the processes that they start."""

import os
from pathlib import Path

TESTS = Path(__file__).parents[1]
ROOT = TESTS.parent


def python_path(*first: Path) -> str:
    """PYTHONPATH with the project, the helpers and the fakes; ``first`` are folders that go before them."""
    return os.pathsep.join(map(str, (*first, TESTS / "helpers", TESTS / "fakes", TESTS / "kernels", ROOT)))
