"""Fixtures that several files share, and what a test may need of the machine.

``GZKERN_REQUIRE`` (names with commas: gxx, nvrtc, gpu) makes a failure of what would otherwise be a skip.
"""

import os
import signal
import time
from functools import cache
from pathlib import Path

import pytest

_BEGUN = pytest.StashKey[float]()


def pytest_addoption(parser):
    parser.addoption("--record", metavar="FILE", help="write what the kernel tests measured to a JSON file")
    parser.addoption("--stop-after", metavar="SECONDS", type=float, help="skip the tests that begin later than that")


def pytest_sessionstart(session):
    session.config.stash[_BEGUN] = time.monotonic()


def pytest_runtest_setup(item):
    """Skip a test marked gxx, nvrtc or gpu where that is missing, unless this machine must have it.

    Also skip every test that begins after --stop-after: then what ran before is recorded, and the session passes.
    """
    seconds = item.config.getoption("--stop-after")
    if seconds is not None and time.monotonic() - item.config.stash[_BEGUN] > seconds:
        pytest.skip(f"--stop-after {seconds:g}")
    for requirement, missing in (("gxx", missing_gxx), ("nvrtc", missing_nvrtc), ("gpu", missing_gpu)):
        if item.get_closest_marker(requirement) and (reason := missing()):
            _lacking(requirement, reason)


def _lacking(requirement: str, reason: str) -> None:
    if requirement in os.environ.get("GZKERN_REQUIRE", "").split(","):
        pytest.fail(f"GZKERN_REQUIRE names {requirement}: {reason}")
    pytest.skip(reason)


@pytest.fixture(scope="session")
def lacking():
    """Skip, for a reason; or fail where GZKERN_REQUIRE names the requirement."""
    return _lacking


@cache
def missing_gxx() -> str | None:
    """What keeps kernels from being emulated here."""
    from gzkern.errors import InputError
    from gzkern.runtime.emulator import backend

    try:
        backend.require()
    except InputError as error:
        return str(error)
    return None


@cache
def missing_nvrtc() -> str | None:
    """What keeps kernels from being compiled for a GPU here."""
    from gzkern.runtime import nvrtc

    reason = nvrtc.missing()
    return f'{reason}; pip install -e ".[nvrtc]"' if reason else None


@cache
def missing_gpu() -> str | None:
    """What keeps kernels from running on a GPU here."""
    from gzkern.runtime.gpu import missing

    return missing()


@pytest.fixture
def interruptible():
    """Python does not listen to SIGINT where a shell started it in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="session")
def demo_folder(tmp_path_factory) -> Path:
    """A small set of synthetic galaxies."""
    pytest.importorskip("scipy")  # draws the galaxies; a bare machine with a GPU may lack it
    from gzkern.data.demo import draw_demo_set

    folder = tmp_path_factory.mktemp("demo") / "galaxies"
    draw_demo_set(folder, 40, seed=3)
    return folder


@pytest.fixture(scope="session")
def demo_pack(demo_folder, tmp_path_factory) -> Path:
    """The same, packed."""
    from gzkern.data.pack import pack
    from gzkern.decision_trees.tree import load_tree

    out = tmp_path_factory.mktemp("demo") / "pack"
    labels = demo_folder / "training_solutions_rev1.csv"
    pack(demo_folder / "images_training_rev1", labels, out, load_tree(), progress=False)
    return out


@pytest.fixture(scope="session")
def demo_run(demo_pack, tmp_path_factory):
    """A finished run of ten steps on it; read only."""
    pytest.importorskip("numba", exc_type=ImportError)
    from small_configs import small_config

    from gzkern.training.loop import train

    return train(small_config(), demo_pack, tmp_path_factory.mktemp("demo") / "run", progress=False)


@pytest.fixture
def after_demo(demo_folder, demo_pack, demo_run, tmp_path, monkeypatch) -> Path:
    """The current folder, which looks as after ``make demo``."""
    (tmp_path / "demo").mkdir()
    for name, path in (("galaxies", demo_folder), ("pack", demo_pack), ("run", demo_run.path)):
        (tmp_path / "demo" / name).symlink_to(path)
    monkeypatch.chdir(tmp_path)
    return tmp_path
