"""Fixtures that several files share: a small packed set of synthetic galaxies, and a run trained on it."""

from pathlib import Path

import pytest
from small import small_config

from gzkern.data.demo import draw_demo_set
from gzkern.data.pack import pack
from gzkern.decision_tree import load_tree


@pytest.fixture(scope="session")
def demo_folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("demo") / "galaxies"
    draw_demo_set(folder, 40, seed=3)
    return folder


@pytest.fixture(scope="session")
def demo_pack(demo_folder, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("demo") / "pack"
    labels = demo_folder / "training_solutions_rev1.csv"
    pack(demo_folder / "images_training_rev1", labels, out, load_tree(), progress=False)
    return out


@pytest.fixture(scope="session")
def demo_run(demo_pack, tmp_path_factory):
    """A finished run of ten steps; read only."""
    from gzkern.training import train

    return train(small_config(), demo_pack, tmp_path_factory.mktemp("demo") / "run", progress=False)
