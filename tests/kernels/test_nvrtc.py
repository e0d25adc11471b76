"""Every kernel compiled to machine code by the compiler that a GPU's launches use; what it takes; the cache on disk."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.profile import kernel_resources, toolchains
from benchmarks.profile.nvrtc_versions import HERE
from gzkern.errors import GzkernError
from gzkern.runtime import nvrtc, source

pytestmark = pytest.mark.nvrtc

OF_TESTS = sorted(Path(__file__).parent.glob("*.cu"))
TOOLCHAINS = [
    (HERE, "sm_90a"),
    ("13.0", "sm_90a"),
    *(pytest.param(HERE, each, marks=pytest.mark.slow) for each in kernel_resources.GPUS if each != "sm_90a"),
]
each_toolchain = pytest.mark.parametrize(("toolchain", "architecture"), TOOLCHAINS)


@pytest.fixture(scope="module")
def programs(request, compiler):
    """Programs that this session's tests ask for, by compiler, file and architecture; all cores begin at once."""
    asked = [item.callspec.params for item in request.session.items if "programs" in getattr(item, "fixturenames", ())]
    keys = {(params["toolchain"], params["file"], params["architecture"]): None for params in asked}
    known = [key for key in keys if kernel_resources.GPUS[key[2]].capability in compiler(key[0]).architectures]
    futures = {key: compiler(key[0]).submit(source.load(key[1]), key[2]) for key in known}

    def program(*key):
        if key not in futures:
            pytest.skip(f"NVRTC {compiler(key[0]).version} does not know {key[2]}")
        return futures[key].result().program

    return program


@each_toolchain
@pytest.mark.parametrize("file", [*source.stems(), *OF_TESTS], ids=lambda file: Path(file).stem)
def test_every_kernel_compiles(toolchain, architecture, file, programs):
    program = programs(toolchain, file, architecture)
    assert program.code.startswith(b"\x7fELF")
    for kernel in source.load(file).kernels:
        assert f".text.{kernel}\0".encode() in program.code
    assert toolchains.warnings(program) == [] or file in OF_TESTS, program.log


@each_toolchain
@pytest.mark.parametrize("file", source.stems())
def test_resources_are_as_recorded(toolchain, architecture, file, programs, compiler):
    rows = list(kernel_resources.rows_of(programs(toolchain, file, architecture), architecture))
    assert {row.kernel for row in rows} == set(source.load(file).kernels)
    version = compiler(toolchain).version
    recorded = kernel_resources.read(version)
    if not recorded:
        assert [str(row) for row in rows if row.spills] == []
        pytest.skip(f"no table is of NVRTC {version}")
    problems = kernel_resources.problems(rows, recorded)
    assert not problems, "\n".join(problems)


MANY_REGISTERS = """
extern "C" __global__ void __launch_bounds__(1024, 2) spilling(float* x) {
  float held[64];
  #pragma unroll
  for (int i = 0; i < 64; i++) held[i] = x[i * 1024 + threadIdx.x];
  __syncthreads();
  #pragma unroll
  for (int i = 0; i < 64; i++) x[i * 1024 + 1023 - threadIdx.x] = held[i];
}
extern "C" __global__ void plain(float* x) { x[threadIdx.x] = 1; }
"""


def test_spills_and_lost_blocks_are_found(tmp_path):
    (tmp_path / "many.cu").write_text(MANY_REGISTERS)
    program = nvrtc.compile_source(source.load(tmp_path / "many.cu"), "sm_90")
    plain, spilling = sorted(kernel_resources.rows_of(program, "sm_90"), key=lambda row: row.kernel)
    assert (spilling.threads, spilling.registers, spilling.blocks) == (1024, 32, 2)
    assert spilling.spill_stores > 0
    both = {row.key: row for row in (plain, spilling)}
    assert kernel_resources.problems([plain, spilling], both) == []
    less = {**both, spilling.key: replace(spilling, spill_stores=4)}
    (problem,) = kernel_resources.problems([plain, spilling], less)
    assert problem == f"spilling on sm_90 spills {spilling.spill_stores} bytes, recorded 4"
    more, fewer_blocks = replace(plain, registers=31), replace(plain, registers=40, blocks=6)
    assert kernel_resources.problems([more], both) == []
    assert "6 resident blocks of 256 threads, recorded 8" in kernel_resources.problems([fewer_blocks], both)[0]
    assert "plain on sm_90 is not recorded; run python -m" in kernel_resources.problems([plain], {})[0]


def test_errors_name_the_cu_file_and_its_line(tmp_path):
    (tmp_path / "helper.cuh").write_text("#pragma once\n__device__ float two() { return 2; }\n")
    path = tmp_path / "broken.cu"
    path.write_text('#include "helper.cuh"\n\nextern "C" __global__ void broken(float* x) {\n  x[0] = three();\n}\n')
    with pytest.raises(GzkernError, match=r"broken\.cu does not compile for sm_90:\n(.*\n)?.*broken\.cu\(4\): error: "):
        nvrtc.compile_source(source.load(path), "sm_90")


@pytest.mark.parametrize(
    ("capability", "architecture"),
    [(80, "sm_80"), (86, "sm_86"), (89, "sm_86"), (90, "sm_90a"), (103, "sm_100"), (110, "compute_103")],
)
def test_architecture_of_a_gpu(capability, architecture):
    known = (75, 80, 86, 90, 100, 103) if capability == 110 else (75, 80, 86, 90, 100)
    assert nvrtc._nearest(capability, known) == architecture


def test_a_gpu_newer_than_the_compiler_gets_ptx():
    assert nvrtc.architecture(999).startswith("compute_")
    program = nvrtc.compile_source(source.load("relu"), nvrtc.architecture(999))
    assert b".entry relu_forward" in program.code


@pytest.fixture
def cached(tmp_path, monkeypatch):
    """An empty cache; calling it gives the files in it."""
    monkeypatch.setenv("GZKERN_CACHE", str(tmp_path / "cache"))
    return lambda: sorted((tmp_path / "cache" / "cuda").iterdir())


def test_a_second_time_comes_from_the_cache(cached, monkeypatch):
    code = source.load("relu")
    first = nvrtc.image(code, "sm_90")
    assert nvrtc.image(code, "sm_80") != first
    assert [path.name.rpartition("-")[0] for path in cached()] == ["relu-sm_80", "relu-sm_90"]
    monkeypatch.setattr(nvrtc, "compile_source", lambda *arguments: pytest.fail("compiled again"))
    assert nvrtc.image(code, "sm_90") == first


@pytest.mark.parametrize("damage", [lambda b: b[:-1], lambda b: b"", lambda b: b[:99] + b"?" + b[100:]])
def test_a_damaged_file_is_compiled_again(cached, damage):
    code = source.load("relu")
    first = nvrtc.image(code, "sm_90")
    (path,) = cached()
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    assert nvrtc.image(code, "sm_90") == first
    assert path.read_bytes() == whole
    assert cached() == [path]


def test_a_changed_source_is_compiled_anew(cached, tmp_path):
    path = tmp_path / "changing.cu"
    images = set()
    for value in (1, 2):
        path.write_text(f'extern "C" __global__ void changing(float* x) {{ x[0] = {value}; }}\n')
        images.add(nvrtc.image(source.load(path), "sm_90"))
    assert len(images) == len(cached()) == 2


def test_processes_that_compile_at_once(cached):
    code = (
        "import hashlib; from gzkern.runtime import nvrtc, source; "
        "print(hashlib.sha256(nvrtc.image(source.load('relu'), 'sm_90')).hexdigest())"
    )
    processes = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    digests = {process.communicate()[0] for process in processes}
    assert [process.returncode for process in processes] == [0, 0]
    assert len(digests) == len(cached()) == 1
