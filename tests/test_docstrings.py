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


@pytest.fixture(scope="module")
def after_the_demo(demo_folder, demo_pack, demo_run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("after")
    (folder / "demo").mkdir()
    for name, path in (("galaxies", demo_folder), ("pack", demo_pack), ("run", demo_run.path)):
        (folder / "demo" / name).symlink_to(path)
    return folder


@pytest.mark.parametrize("name", list(modules_with_examples()))
def test_examples_run(name, after_the_demo, monkeypatch):
    monkeypatch.chdir(after_the_demo)
    monkeypatch.setenv("GZKERN_DEVICE", "cpu")
    failed, tried = doctest.testmod(importlib.import_module(name), optionflags=doctest.ELLIPSIS)
    assert tried
    assert not failed


@pytest.mark.parametrize("public", PUBLIC, ids=lambda public: public.__qualname__)
def test_public_names_have_an_example(public):
    assert ">>> " in public.__doc__
