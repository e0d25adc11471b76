"""The wheel: what it must hold beside Python code, and that the package finds it there."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel of this checkout, unpacked; built without a network."""
    pytest.importorskip("hatchling", reason="hatchling, which builds the wheel, is not installed")
    if not (ROOT / "pyproject.toml").is_file():
        pytest.skip("not in a checkout")
    out, unpacked = tmp_path_factory.mktemp("wheel"), tmp_path_factory.mktemp("unpacked")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(out)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (file,) = out.glob("*.whl")
    with zipfile.ZipFile(file) as archive:
        archive.extractall(unpacked)
    return unpacked


def names(folder, *suffixes):
    return {path.relative_to(folder) for suffix in suffixes for path in folder.rglob(f"*.{suffix}")}


def test_every_source_and_header_is_inside(wheel):
    kernels = names(ROOT / "kernels", "cu", "cuh")
    assert kernels
    assert names(wheel / "gzkern" / "_kernels", "cu", "cuh") == kernels
    headers = names(ROOT / "gzkern", "hpp", "toml")
    assert headers
    assert names(wheel / "gzkern", "hpp", "toml") == headers


def test_type_checkers_are_told_that_the_package_has_types(wheel):
    assert (wheel / "gzkern" / "py.typed").is_file()


def test_nothing_else_is_inside(wheel):
    assert {path.name.partition("-")[0] for path in wheel.iterdir()} == {"gzkern"}
    assert not names(wheel, "pyc", "nbi", "nbc", "so")


def run(wheel, code):
    process = subprocess.run(
        [sys.executable, "-c", code],
        cwd=wheel,
        env={**os.environ, "PYTHONPATH": str(wheel)},
        capture_output=True,
        text=True,
        check=True,
    )
    return process.stdout.splitlines()


def test_the_package_finds_its_kernels(wheel):
    code = "from gzkern.runtime import source; print(source.folder()); [source.load(stem) for stem in source.stems()]"
    assert run(wheel, code) == [str(wheel / "gzkern" / "_kernels")]


@pytest.mark.gxx
def test_a_kernel_of_the_wheel_runs_emulated(wheel):
    code = "import numpy as np; from gzkern.cuda import relu; print(relu.forward(np.array([-1, 2], 'f')).tolist())"
    assert run(wheel, code) == ["[0.0, 2.0]"]
