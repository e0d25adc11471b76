"""Every kernel compiled to machine code by the compiler that a GPU's launches use; what it takes; the cache on disk."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from benchmarks import kernel_resources
from gzkern.cuda import nvrtc, source
from gzkern.errors import GzkernError

pytestmark = pytest.mark.nvrtc

ARCHITECTURES = [
    "sm_90a",
    *(pytest.param(name, marks=pytest.mark.slow) for name in ("sm_80", "sm_100", "sm_120")),
]
OF_TESTS = sorted(Path(__file__).parent.glob("*.cu"))

each_architecture = pytest.mark.parametrize("architecture", ARCHITECTURES)


@pytest.fixture(scope="module")
def programs(request):
    """The files and architectures that this session's tests ask for, one a core at a time."""
    asked = [item.callspec.params for item in request.session.items if "programs" in getattr(item, "fixturenames", ())]
    keys = {(params["file"], params["architecture"]) for params in asked}
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        yield {key: pool.submit(nvrtc.compile_source, source.load(key[0]), key[1]) for key in keys}


@each_architecture
@pytest.mark.parametrize("file", [*source.stems(), *OF_TESTS], ids=lambda file: Path(file).stem)
def test_every_kernel_compiles(file, architecture, programs):
    program = programs[file, architecture].result()
    assert program.code.startswith(b"\x7fELF")
    for kernel in source.load(file).kernels:
        assert f".text.{kernel}\0".encode() in program.code
    assert "warning" not in program.log or file in OF_TESTS, program.log


@pytest.mark.parametrize("architecture", ["sm_90a", pytest.param("sm_80", marks=pytest.mark.slow)])
@pytest.mark.parametrize("file", source.stems())
def test_resources_are_as_recorded(file, architecture, programs):
    rows = list(kernel_resources.rows_of(programs[file, architecture].result(), architecture))
    assert {row.kernel for row in rows} == set(source.load(file).kernels)
    assert [row.kernel for row in rows if row.spill_stores or row.spill_loads] == []
    compiler, recorded = kernel_resources.read()
    if compiler != kernel_resources.compiler():
        pytest.skip(f"the table is of {compiler}, here is {kernel_resources.compiler()}")
    problems = kernel_resources.problems(rows, recorded)
    assert not problems, "\n".join(problems)


@pytest.mark.slow
def test_the_network_s_tiles_are_as_recorded():
    """Without spills, and none costs a resident block."""
    compiler, recorded = kernel_resources.read()
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        rows = list(pool.map(kernel_resources.tile_row, kernel_resources.network_kernels()))
    assert [f"{row.kernel} <{row.tile}>" for row in rows if row.spill_stores or row.spill_loads] == []
    if compiler == kernel_resources.compiler():
        assert not (problems := kernel_resources.problems(rows, recorded)), "\n".join(problems)


def test_no_kernel_is_recorded_that_is_not_there():
    kernels = {name for stem in source.stems() for name in source.load(stem).kernels}
    _, recorded = kernel_resources.read()
    gone = {kernel for kernel, _, _ in recorded} - kernels
    assert not gone, f"no longer in kernels/: {', '.join(sorted(gone))}; run {kernel_resources.UPDATE}"


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
    both = {(row.kernel, row.tile, row.architecture): row for row in (plain, spilling)}
    assert "spilling on sm_90 spills" in " ".join(kernel_resources.problems([plain, spilling], both))
    assert kernel_resources.problems([plain], both) == []
    more = kernel_resources.Row(**{**vars(plain), "registers": 31})
    fewer_blocks = kernel_resources.Row(**{**vars(plain), "registers": 40, "blocks": 6})
    assert kernel_resources.problems([more], both) == []
    assert "6 resident blocks of 256 threads, recorded 8" in kernel_resources.problems([fewer_blocks], both)[0]
    assert "not in kernel_resources.json; run python -m" in kernel_resources.problems([plain], {})[0]


@pytest.mark.parametrize(
    ("threads", "registers", "shared", "blocks"),
    [
        (256, 32, 0, 8),  # threads
        (256, 40, 0, 6),  # registers
        (128, 168, 0, 3),
        (128, 32, 34816, 6),  # shared memory
        (32, 16, 0, 32),  # blocks
    ],
)
def test_resident_blocks(threads, registers, shared, blocks):
    assert kernel_resources.resident_blocks("sm_90", threads, registers, shared) == blocks


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
        "import hashlib; from gzkern.cuda import nvrtc, source; "
        "print(hashlib.sha256(nvrtc.image(source.load('relu'), 'sm_90')).hexdigest())"
    )
    processes = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    digests = {process.communicate()[0] for process in processes}
    assert [process.returncode for process in processes] == [0, 0]
    assert len(digests) == len(cached()) == 1
