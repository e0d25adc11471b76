"""Every kernel file compiled by nvcc as a reader would call it, without flags that mend anything."""

import shutil
import subprocess

import pytest

from gzkern.runtime import source

QUICK = ("warp", "conv2d/backward_bias")
"""Two that nvcc once rejected: for a function of the host, and for an include that it did not find."""

pytestmark = pytest.mark.skipif(shutil.which("nvcc") is None, reason="no nvcc on the PATH")


@pytest.mark.parametrize("architecture", ["sm_90a", pytest.param("sm_80", marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "stem", [stem if stem in QUICK else pytest.param(stem, marks=pytest.mark.slow) for stem in source.stems()]
)
def test_nvcc_compiles_every_file(stem, architecture, tmp_path):
    path = source.folder() / f"{stem}.cu"
    command = ["nvcc", "-std=c++17", f"-arch={architecture}", "-cubin", str(path), "-o", str(tmp_path / "out.cubin")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
