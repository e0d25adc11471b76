"""Finding the CUDA sources, and putting their includes in."""

import re
import shutil
import subprocess

import pytest

from gzkern.errors import GzkernError
from gzkern.runtime import source


@pytest.fixture
def write(tmp_path):
    """Write files into a folder of their own; the path of the first."""

    def write(**texts):
        paths = []
        for name, text in texts.items():
            stem, _, suffix = name.rpartition("_")
            paths.append(tmp_path / f"{stem}.{suffix}")
            paths[-1].write_text(text)
        return paths[0]

    return write


def places(text):
    """(file, line) of each source line of an inlined text, by its ``#line`` marks."""
    found, file, line = {}, "", 0
    for row in text.split("\n"):
        if mark := re.fullmatch(r'#line (\d+) "(.*)"', row):
            line, file = int(mark[1]), mark[2]
            continue
        if row.strip():
            found[row.strip()] = (file.rpartition("/")[2], line)
        line += 1
    return found


def test_every_file_has_kernels_named_by_it():
    assert source.stems() == sorted(source.stems())
    assert {"relu", "conv2d/forward_mma"} <= set(source.stems())
    for stem in source.stems():
        code = source.load(stem)
        assert code.name == f"kernels/{stem}.cu"
        assert code.kernels
        assert all(name.startswith(stem.replace("/", "_")) for name in code.kernels)
        assert "#include" not in code.text
        assert "#pragma once" not in code.text


def test_kernels_in_every_form(write):
    path = write(
        forms_cu="""
extern "C" __global__ void forms_plain(float* x) {}
extern "C" __global__ void __launch_bounds__(256) forms_bounded(float* x) {}
extern "C" __global__ void __launch_bounds__(4 * (8 + 24), 2) forms_computed(float* x) {}
extern "C" __global__ __launch_bounds__(kThreads, 1) void forms_before(float* x) {}
extern "C" __global__ void __launch_bounds__(128)
    forms_on_two_lines(const float* __restrict__ x,
                       float* __restrict__ y) {}
__global__ void not_extern(float* x) {}
__device__ float not_a_kernel(float x) { return x; }
"""
    )
    assert source.load(path).kernels == (
        "forms_plain",
        "forms_bounded",
        "forms_computed",
        "forms_before",
        "forms_on_two_lines",
    )


def test_a_file_is_included_once_and_every_line_keeps_its_place(write):
    path = write(
        main_cu='// first\n#include "left.cuh"\n#include "right.cuh"  // too\nint main_line_4;\n\nint main_line_6;\n',
        left_cuh='#pragma once\n#include "common.cuh"\nint left_line_3;\n',
        right_cuh='#pragma once\n\n  #include "common.cuh"\nint right_line_4;\n',
        common_cuh="#pragma once\n\n\nint common_line_4;\n",
    )
    text = source.load(path).text
    assert text.count("common_line_4") == 1
    assert places(text) == {
        "// first": ("main.cu", 1),
        "int common_line_4;": ("common.cuh", 4),
        "int left_line_3;": ("left.cuh", 3),
        "int right_line_4;": ("right.cuh", 4),
        "int main_line_4;": ("main.cu", 4),
        "int main_line_6;": ("main.cu", 6),
    }


@pytest.mark.gxx
def test_a_compiler_names_the_line_after_an_include(write):
    path = write(
        wrong_cu='#include "once.cuh"\n#include "once.cuh"\n\nint good;\nint bad = missing_name;\n',
        once_cuh="#pragma once\nint included;\n",
    )
    text = source.load(path).text
    run = subprocess.run(["g++", "-fsyntax-only", "-xc++", "-"], input=text, capture_output=True, text=True)
    assert re.search(r"wrong\.cu:5:\d+: error: .*missing_name", run.stderr), run.stderr


def test_includes_of_the_folder_and_beside_the_file(write):
    path = write(uses_cu='#include "include/float4.cuh"\n#include "near.cuh"\n', near_cuh="int near_by;\n")
    found = places(source.load(path).text)
    assert found["int near_by;"] == ("near.cuh", 1)
    assert '"kernels/include/float4.cuh"' in source.load(path).text


def test_an_include_that_is_nowhere(write):
    path = write(lost_cu='#include "nowhere.cuh"\n')
    with pytest.raises(GzkernError, match=r'lost\.cu includes "nowhere\.cuh", which is neither beside it nor in '):
        source.load(path)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(GzkernError, match=r"CUDA source .*/absent\.cu: No such .*; install gzkern again"):
        source.load("absent")
    with pytest.raises(GzkernError, match=r"CUDA source .*/absent\.cu: No such file"):
        source.load(tmp_path / "absent.cu")


def test_the_folder_of_a_wheel_of_a_checkout_and_of_neither(tmp_path, monkeypatch):
    package = tmp_path / "gzkern"
    monkeypatch.setattr(source, "__file__", str(package / "runtime" / "source.py"))
    find = source.folder.__wrapped__
    with pytest.raises(GzkernError, match=f"no CUDA sources beside {package}; install gzkern again"):
        find()
    checkout = tmp_path / "kernels"
    checkout.mkdir()
    shutil.copy(source.folder() / "relu.cu", checkout)
    assert find() == checkout
    shutil.copytree(checkout, package / "_kernels")
    assert find() == package / "_kernels"
