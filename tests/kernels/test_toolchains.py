"""Every NVRTC that pyproject.toml allows, and the tables of what kernels take by each of them."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from benchmarks.profile import kernel_resources, nvrtc_versions, toolchains
from benchmarks.profile.kernel_resources import GPUS, Row, Spill
from gzkern.errors import GzkernError, InputError
from gzkern.runtime import source

VERSIONS = [name for name in nvrtc_versions.REQUIREMENTS if name != "newest"]
ROW = Row("multiply", "", "sm_80", 256, 40, 0, 0, 0, 0, 6)
SPILL = Spill("13.0", "sm_80", "multiply", "", 8, "a reason")


@pytest.mark.nvrtc
@pytest.mark.slow
@pytest.mark.parametrize("version", nvrtc_versions.REQUIREMENTS)
def test_every_toolchain(version, compiler):
    """All files and all chosen tiles, on all architectures that it knows."""
    results = toolchains.compile_known(compiler(version), list(GPUS))
    assert len(results) == (4 if version == "12.4" else 6)
    assert "\n".join(toolchains.all_problems(results)) == ""


def test_the_oldest_and_the_newest_have_tables():
    assert {*VERSIONS, "13.5"} <= set(kernel_resources.recorded_versions())


@pytest.fixture(scope="module")
def kernels_of_files():
    return {name for stem in source.stems() for name in source.load(stem).kernels}


@pytest.mark.parametrize("version", kernel_resources.recorded_versions())
def test_a_table_has_every_kernel_and_no_other(version, kernels_of_files):
    recorded = set(kernel_resources.read(version))
    architectures = {architecture for _, _, architecture in recorded}
    files = {(name, "", each) for name in kernels_of_files for each in architectures}
    tiles = {
        (kernel.name, ", ".join(map(str, kernel.tile)), each)
        for each in architectures
        for kernel in kernel_resources.tiled_kernels(each)
    }
    assert recorded ^ (files | tiles) == set(), f"run {kernel_resources.UPDATE}"


@pytest.mark.parametrize("version", kernel_resources.recorded_versions())
def test_every_recorded_spill_is_accepted(version):
    rows, accepted = kernel_resources.read(version).values(), kernel_resources.accepted_spills()
    problems = [each for name in GPUS for each in kernel_resources.spill_problems(version, name, rows, accepted)]
    assert "\n".join(problems) == ""


def test_every_accepted_spill_is_of_a_table_and_has_a_reason():
    for spill in kernel_resources.accepted_spills():
        assert spill.compiler in kernel_resources.recorded_versions()
        assert spill.architecture in GPUS
        assert len(spill.reason.split()) > 5


@pytest.mark.parametrize(
    ("row", "accepted", "expected"),
    [
        (ROW, [], ""),
        (replace(ROW, spill_stores=8), [SPILL], ""),
        (replace(ROW, spill_stores=8), [], "spills 8 bytes, {} has 0"),
        (replace(ROW, spill_stores=8), [replace(SPILL, compiler="12.4")], "spills 8 bytes, {} has 0"),
        (replace(ROW, spill_stores=8), [replace(SPILL, bytes=4)], "spills 8 bytes, {} has 4"),
        (ROW, [SPILL], "spills 0 bytes, {} has 8"),
    ],
)
def test_spills_and_their_acceptance_must_agree(row, accepted, expected):
    found = kernel_resources.spill_problems("13.0", "sm_80", [row], accepted)
    text = f"NVRTC 13.0: multiply on sm_80 with tile of the file {expected}".format(kernel_resources.ACCEPTED.name)
    assert found == ([text] if expected else [])


def test_a_table_is_read_as_it_was_written(tmp_path, monkeypatch):
    monkeypatch.setattr(kernel_resources, "FOLDER", tmp_path / "tables")
    assert kernel_resources.read("13.0") == {}
    assert kernel_resources.write("13.0", [ROW]).name == "nvrtc-13.0.json"
    assert kernel_resources.read("13.0") == {ROW.key: ROW}
    assert kernel_resources.recorded_versions() == ["13.0"]


@pytest.mark.parametrize(
    ("log", "count"),
    [
        ("ptxas info    : Used 12 registers, used 0 barriers\n", 0),
        ("ptxas warning : Value of threads per SM is out of range\n", 1),
        ('kernels/relu.cu(3): warning #177-D: variable "x" was declared but never referenced\n', 1),
        (
            "ptxas info    : (C7510) Potential Performance Loss: wgmma.mma_async instructions are serialized due to\n",
            1,
        ),
        ("ptxas info    : (C7517) wgmma.wait_group is injected in around line 1399 by compiler\n", 1),
    ],
)
def test_warnings_of_a_log(log, count):
    assert len(toolchains.warnings(SimpleNamespace(log=f"ptxas info : 0 bytes gmem\n{log}"))) == count


def test_a_package_that_pip_cannot_install(tmp_path, monkeypatch):
    monkeypatch.setenv("GZKERN_CACHE", str(tmp_path))
    with pytest.raises(InputError, match=r"pip cannot install nvidia-cuda-nvrtc==0\.0: "):
        nvrtc_versions.installed("nvidia-cuda-nvrtc==0.0")
    assert list((tmp_path / "toolchains").iterdir()) == []


@pytest.mark.nvrtc
@pytest.mark.parametrize("name", [nvrtc_versions.HERE, "13.0"])
def test_a_compiler_names_the_line_that_it_rejects(name, compiler, tmp_path):
    path = tmp_path / "broken.cu"
    path.write_text('extern "C" __global__ void broken(float* x) {\n  x[0] = three();\n}\n')
    with pytest.raises(GzkernError, match=r"broken\.cu does not compile for sm_80:\n(.*\n)?.*broken\.cu\(2\): error: "):
        compiler(name).submit(source.load(path), "sm_80").result()


def test_a_version_that_is_not_there(capsys):
    with pytest.raises(SystemExit) as raised:
        toolchains.main(["--versions", "11.8"])
    assert raised.value.code == 2
    assert "version '11.8': expected 12.4,12.9,13.0,newest,here" in capsys.readouterr().err


@pytest.mark.nvrtc
def test_the_command_prints_a_row_an_architecture(tmp_path, monkeypatch, capsys):
    """Compile one file by this environment's compiler; with --update, record the new rows."""
    monkeypatch.setattr(source, "stems", lambda: ["relu"])
    monkeypatch.setattr(toolchains, "tiled_kernels", lambda architecture: [])
    monkeypatch.setattr(toolchains, "accepted_spills", list)
    monkeypatch.setattr(kernel_resources, "FOLDER", tmp_path)
    command = ["--versions", "here", "--architectures", "sm_80,sm_120"]
    assert toolchains.main(command) == 1
    assert "relu_forward on sm_80 is not recorded; run python -m" in capsys.readouterr().out
    assert toolchains.main([*command, "--update"]) == 0
    _, *rows = capsys.readouterr().out.splitlines()
    assert [row.split()[1:5] for row in rows] == [["sm_80", "1", "of", "1"], ["sm_120", "1", "of", "1"]]
    assert all(row.endswith("passed") for row in rows)
