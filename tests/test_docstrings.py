"""The examples in docstrings run, in a folder that looks as after ``make demo``."""

import doctest
import importlib
from pathlib import Path

import pytest

import gzkern
from gzkern.models.predictor import Predictor

PACKAGE = Path(gzkern.__file__).parent
PUBLIC = [
    *(getattr(gzkern, name) for name in gzkern.__all__ if name != "__version__"),
    *(gzkern.Network.predict, gzkern.Network.loss_and_gradients, gzkern.Run.predict, Predictor),
]


def modules_with_examples():
    for path in sorted(PACKAGE.rglob("*.py")):
        if ">>> " in path.read_text(encoding="utf-8"):
            parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
            yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@pytest.mark.parametrize("name", list(modules_with_examples()))
@pytest.mark.usefixtures("after_demo")
def test_examples_run(name, monkeypatch):
    monkeypatch.setenv("GZKERN_DEVICE", "cpu")
    failed, tried = doctest.testmod(importlib.import_module(name), optionflags=doctest.ELLIPSIS)
    assert tried
    assert not failed


@pytest.mark.parametrize("public", PUBLIC, ids=lambda public: public.__qualname__)
def test_public_names_have_an_example(public):
    assert ">>> " in public.__doc__
