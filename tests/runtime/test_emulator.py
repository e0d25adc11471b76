"""The emulated device itself: orders, shared memory, failures and their messages, limits, compiling and its cache.

What kernels take from CUDA is proved by tests/kernels/cases_primitives.py, here and on a GPU; the finding of bugs by
tests/kernels/test_seeded_bugs.py.
"""

import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from gzkern.errors import GzkernError, InputError
from gzkern.runtime import source
from gzkern.runtime.emulator import compiler, sanitizers
from gzkern.runtime.emulator.backend import Emulator
from gzkern.runtime.emulator.translate import translate
from gzkern.runtime.kernel import Geometry, Kernel

pytestmark = pytest.mark.gxx
THREADS = 64

SOURCE = """
extern "C" __global__ void order_of_threads(unsigned* out, unsigned* count, unsigned rounds) {
  for (unsigned round = 0; round < rounds; round++) {
    out[atomicAdd(count, 1)] = threadIdx.x;
    __syncthreads();
  }
}

extern "C" __global__ void order_of_blocks(unsigned* out, unsigned* count) { out[atomicAdd(count, 1)] = blockIdx.x; }

extern "C" __global__ void unset_shared(float* out, unsigned* bytes) {
  __shared__ float tile[64];
  __shared__ unsigned char small[64];
  extern __shared__ float more[];
  const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
  out[i] = isnan(tile[threadIdx.x]) && isnan(more[threadIdx.x]);
  bytes[i] = small[threadIdx.x];
  tile[threadIdx.x] = more[threadIdx.x] = small[threadIdx.x] = 1;
}

extern "C" __global__ void static_and_dynamic(float* out) {
  __shared__ float tile[8000];
  extern __shared__ float more[];
  out[threadIdx.x] = tile[0] + more[0];
}

extern "C" __global__ void too_much_static(float* out) {
  __shared__ float tile[48 * 256 + 1];
  out[threadIdx.x] = tile[0];
}

extern "C" __global__ void __launch_bounds__(2 * (8 + 24), 2) bounded(float* out) { out[threadIdx.x] = 1; }

extern "C" __global__ void host_threads(unsigned long long* out, unsigned n) {
  unsigned sum = 0;
  for (volatile unsigned i = 0; i < n; i++) sum += i;
  out[blockIdx.x] = pthread_self() + 0 * sum;
}

extern "C" __global__ void rotate(const float* x, float* y, unsigned rounds) {
  __shared__ float tile[64];
  float value = x[threadIdx.x];
  for (unsigned round = 0; round < rounds; round++) {
    tile[threadIdx.x] = value;
    __syncthreads();
    value = __shfl_xor_sync(0xffffffff, tile[(threadIdx.x + 1) % 64], 1);
    __syncthreads();
  }
  y[blockIdx.x * blockDim.x + threadIdx.x] = value;
}

extern "C" __global__ void deadlock(float* out, unsigned bad_block) {
  if (blockIdx.x != bad_block || threadIdx.x < 8) __syncthreads();
  out[blockIdx.x * blockDim.x + threadIdx.x] = 1;
}

extern "C" __global__ void shared_target(const float* x, float* y, int shift) {
  __shared__ __align__(16) float tile[72];
  emulation::copy_async(shift < 0 ? y : tile + shift, x, 16, 16);
}
"""


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("kernels") / "subject.cu"
    path.write_text(SOURCE)
    return path


@pytest.fixture
def emulator():
    return Emulator()


def run(emulator, file, kernel, *args, grid=1, block=THREADS, shared=0):
    emulator.get_function(file, kernel)((grid,), (block,), args, shared)


def threads_in_order(emulator, file, rounds=1, **settings):
    out, count = np.zeros((rounds, THREADS), np.uint32), np.zeros(1, np.uint32)
    with emulator.settings(**settings):
        run(emulator, file, "order_of_threads", out, count, np.uint32(rounds))
    return out.tolist()


def rotated(emulator, file, grid=3):
    x, y = np.arange(THREADS, dtype=np.float32), np.zeros((grid, THREADS), np.float32)
    run(emulator, file, "rotate", x, y, np.uint32(5), grid=grid)
    assert (y == y[0]).all()
    return y[0].tolist()


def test_orders_of_threads(emulator, file):
    ascending = list(range(THREADS))
    assert threads_in_order(emulator, file, 2) == [ascending] * 2
    assert threads_in_order(emulator, file, 2, order="reverse") == [ascending[::-1]] * 2
    first, second = threads_in_order(emulator, file, 2, order="random", seed=7)
    assert sorted(first) == sorted(second) == ascending
    assert first not in (second, ascending)
    assert threads_in_order(emulator, file, 2, order="random", seed=7) == [first, second]
    assert threads_in_order(emulator, file, 2, order="random", seed=8) != [first, second]


@pytest.mark.parametrize("blocks", [1, 2, 7, 60])
def test_every_order_meets_each_block_once(emulator, file, blocks):
    met = {}
    for order in ("forward", "reverse", "random"):
        out, count = np.zeros(blocks, np.uint32), np.zeros(1, np.uint32)
        with emulator.settings(order=order, seed=3):
            run(emulator, file, "order_of_blocks", out, count, grid=blocks, block=1)
        met[order] = out.tolist()
        assert sorted(met[order]) == list(range(blocks))
    if blocks > 2:
        assert (met["forward"][0], met["reverse"][0]) == (0, blocks - 1)
        assert met["random"] not in (met["forward"], met["reverse"])


def test_settings_end_and_are_checked(emulator, file):
    with emulator.settings(order="reverse"), emulator.settings(seed=3):
        assert threads_in_order(emulator, file)[0][0] == THREADS - 1
    assert threads_in_order(emulator, file)[0][0] == 0
    with pytest.raises(GzkernError, match="'sideways', expected forward or reverse or random"):
        emulator.settings(order="sideways").__enter__()


def test_shared_memory_is_unset_in_every_block(emulator, file):
    """Static and dynamic, although the blocks before wrote it all."""
    out, values = np.zeros((50, THREADS), np.float32), np.zeros((50, THREADS), np.uint32)
    run(emulator, file, "unset_shared", out, values, grid=50, shared=4 * THREADS)
    assert out.all()
    assert (values == 0xFF).all()


def test_blocks_run_on_several_cores(emulator, file):
    if len(os.sched_getaffinity(0)) == 1:
        pytest.skip("one core")
    out = np.zeros(16, np.uint64)
    run(emulator, file, "host_threads", out, np.uint32(10**7), grid=16, block=1)
    assert len(set(out.tolist())) > 1


def test_threads_of_python_may_launch_at_once(emulator, file):
    expected = rotated(emulator, file)
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda _: rotated(emulator, file, 40), range(20))) == [expected] * 20


def test_contexts_of_other_machines(file, monkeypatch):
    """Without the switch for x86-64: the same results, and the same report of a deadlock."""
    expected = rotated(Emulator(), file)
    monkeypatch.setitem(compiler._MODES, "fast", (*compiler._MODES["fast"], "-DEMULATION_UCONTEXT"))
    emulator = Emulator()
    assert rotated(emulator, file) == expected
    with pytest.raises(GzkernError, match="deadlock"):
        run(emulator, file, "deadlock", np.zeros(THREADS, np.float32), np.uint32(0))
    assert rotated(emulator, file) == expected


def test_failure_names_kernel_block_line_and_leaves_nothing(emulator, file):
    expected = rotated(emulator, file)
    for _ in range(100):
        out = np.zeros((8, THREADS), np.float32)
        with pytest.raises(GzkernError) as failure:
            run(emulator, file, "deadlock", out, np.uint32(5), grid=8)
        line = 1 + SOURCE[: SOURCE.index("if (blockIdx.x != bad_block")].count("\n")
        assert str(failure.value) == (
            "deadlock: block (5, 0, 0): deadlock: of 64 threads 56 have ended, "
            f"8 wait at __syncthreads in {file}({line})"
        )
    assert rotated(emulator, file) == expected


@pytest.mark.parametrize(("shift", "complaint"), [(-1, "to memory that is not shared"), (1, "of misaligned addresses")])
def test_asynchronous_copies_are_checked(emulator, file, shift, complaint):
    x, y = np.zeros(THREADS, np.float32), np.zeros(THREADS, np.float32)
    run(emulator, file, "shared_target", x, y, np.int32(4))
    with pytest.raises(GzkernError, match=rf"copies 16 bytes asynchronously, 16 of them valid, {complaint}, in .*\.cu"):
        run(emulator, file, "shared_target", x, y, np.int32(shift))


def test_limits(emulator, file):
    out = np.zeros(1, np.float32)
    with pytest.raises(GzkernError, match=r"a block of \(1025,\) threads, expected 1 to 1024"):
        run(emulator, file, "static_and_dynamic", out, block=1025)
    with pytest.raises(GzkernError, match=r"bounded: a block of \(65,\) threads, expected 1 to 64"):
        run(emulator, file, "bounded", np.zeros(65, np.float32), block=65)
    run(emulator, file, "bounded", np.zeros(64, np.float32), block=64)
    with pytest.raises(GzkernError, match="232449 bytes of shared memory, expected 0 to 232448"):
        run(emulator, file, "static_and_dynamic", out, shared=232449)
    run(emulator, file, "static_and_dynamic", out, block=1, shared=232448 - 32000)
    with pytest.raises(GzkernError, match=r"32000 bytes of static and 200449 of dynamic shared memory.*subject\.cu"):
        run(emulator, file, "static_and_dynamic", out, block=1, shared=232449 - 32000)
    with pytest.raises(GzkernError, match=r"49156 bytes of static .* at most 49152 of static"):
        run(emulator, file, "too_much_static", out, block=1)


def test_arguments_are_checked(emulator, file):
    out, count = np.zeros(THREADS, np.uint32), np.zeros(1, np.uint32)
    for args, complaint in [
        ((out, count), "2 arguments, expected 3"),
        ((out, count, np.uint64(1)), "argument 2 is a scalar of uint64, expected a scalar of uint32"),
        ((out, count, np.float32(1)), "argument 2 is a scalar of float32, expected a scalar of uint32"),
        ((out, count, 1), "argument 2 is int, expected a scalar of uint32"),
        ((out, count, count), "argument 2 is an array of uint32, expected a scalar of uint32"),
        ((out.view(np.float32), count, np.uint32(1)), "argument 0 is an array of float32, expected an array of uint32"),
    ]:
        with pytest.raises(GzkernError, match=f"order_of_threads: {complaint}"):
            run(emulator, file, "order_of_threads", *args)


def test_unknown_kernel(emulator, file):
    with pytest.raises(GzkernError, match=r"subject\.cu: no kernel 'nothing'; it has order_of_threads, "):
        emulator.get_function(file, "nothing")


def test_compile_error_shows_the_line(emulator, tmp_path):
    (tmp_path / "part.cuh").write_text("\n\n__device__ float broken() { return undeclared_name; }\n")
    path = tmp_path / "wrong.cu"
    path.write_text('#include "part.cuh"\n\nextern "C" __global__ void wrong(float* x) { x[0] = also_undeclared; }\n')
    with pytest.raises(GzkernError) as failure:
        emulator.get_function(path, "wrong")
    message = str(failure.value)
    assert message.startswith(f"{path} does not compile for the emulated device:\n")
    assert f"{tmp_path / 'part.cuh'}:3:" in message
    assert f"{path}:3:" in message
    assert "undeclared_name" in message
    assert len(message.splitlines()) < 12


def test_large_frame_is_refused(emulator, tmp_path):
    """It would run over the end of its thread's stack."""
    path = tmp_path / "large.cu"
    path.write_text(
        'extern "C" __global__ void large(float* x) {\n  volatile float local[20000];\n'
        "  for (int i = 0; i < 20000; i++) local[i] = x[i];\n  x[0] = local[threadIdx.x];\n}\n"
    )
    with pytest.raises(GzkernError, match=r"large\.cu:\d+:.*frame size of 80\d+ bytes"):
        emulator.get_function(path, "large")


@pytest.mark.parametrize("declaration", ["__shared__ float a[4], b[4];", "__shared__ float a[4] = {};"])
def test_shared_declaration_that_is_not_understood(tmp_path, declaration):
    (tmp_path / "part.cuh").write_text(
        f"\n__device__ void part() {{\n  // __shared__ in a comment\n  {declaration}\n}}\n"
    )
    path = tmp_path / "odd.cu"
    path.write_text('#include "part.cuh"\nextern "C" __global__ void odd(float* x) {}\n')
    with pytest.raises(GzkernError, match=rf"{tmp_path / 'part.cuh'}\(4\): shared memory is declared in a form"):
        translate(source.load(path))


def test_shared_variables_outside_functions_do_not_compile(emulator, tmp_path):
    path = tmp_path / "outside.cu"
    path.write_text('__shared__ float tile[4];\nextern "C" __global__ void outside(float* x) { x[0] = tile[0]; }\n')
    with pytest.raises(GzkernError, match=r"outside\.cu:1:"):
        emulator.get_function(path, "outside")


def test_second_time_comes_from_the_cache(file, monkeypatch):
    library = compiler.compile_source(source.load(file), "fast")

    def no_process(*arguments, **options):
        raise AssertionError("something was run")

    monkeypatch.setattr(compiler.subprocess, "run", no_process)
    assert compiler.compile_source(source.load(file), "fast") == library
    assert Emulator().compile_all([(file, ())])[file, ()] < 0.5


def test_a_kernel_is_compiled_once_a_tile(emulator, tmp_path):
    path = tmp_path / "tile.cu"
    path.write_text(
        "#ifndef TILE\n#define TILE 2, 3\n#endif\n"
        "template <unsigned ROWS, unsigned COLUMNS> struct Tile { static constexpr unsigned SIZE = ROWS * COLUMNS; };\n"
        'extern "C" __global__ void __launch_bounds__(Tile<TILE>::SIZE) tile_size(float* x) '
        "{ x[threadIdx.x] = Tile<TILE>::SIZE; }\n"
    )
    x = np.zeros(20, np.float32)
    kernel = Kernel(path, "tile_size")
    for tile, size in ((kernel, 6), (kernel.of(Tile(4, 5)), 20), (kernel, 6)):
        tile(emulator, Geometry((1,), (size,)), x)
        assert (x[:size] == size).all()
    with pytest.raises(GzkernError, match="expected 1 to 6"):
        kernel(emulator, Geometry((1,), (7,)), x)


@dataclass(frozen=True)
class Tile:
    rows: int
    columns: int


def test_changed_include_is_compiled_anew(tmp_path):
    path = tmp_path / "including.cu"
    path.write_text('#include "value.cuh"\nextern "C" __global__ void including(float* x) { x[0] = VALUE; }\n')
    seen = []
    for value in (1, 2):
        (tmp_path / "value.cuh").write_text(f"constexpr float VALUE = {value};\n")
        x = np.zeros(1, np.float32)
        run(Emulator(), path, "including", x, block=1)
        seen.append(x[0])
    assert seen == [1, 2]


def test_compile_all_says_the_seconds_of_each_file(emulator, tmp_path):
    files = []
    for number in range(3):
        path = tmp_path / f"file{number}.cu"
        path.write_text(f'extern "C" __global__ void file{number}(float* x) {{ x[0] = {time.time()}f; }}\n')
        files.append((path, ()))
    took = emulator.compile_all(files)
    assert list(took) == files
    assert all(seconds > 0.05 for seconds in took.values())
    run(emulator, files[2][0], "file2", np.zeros(1, np.float32), block=1)


def test_sanitized_kernels_need_the_runtime_from_the_start(emulator, file):
    with (
        emulator.settings(mode="asan"),
        pytest.raises(
            InputError,
            match=r"'asan' needs a process that begins with the sanitizer's runtime; start it by .*LD_PRELOAD=",
        ),
    ):
        emulator.get_function(file, "rotate")


@pytest.fixture
def path_with(tmp_path, monkeypatch):
    """Replace the PATH by a folder with these commands in it."""

    def put(**commands):
        for name, script in commands.items():
            command = tmp_path / name.replace("gxx", "g++").replace("_", "-")
            command.write_text(f"#!{sys.executable}\n{script}\n")
            command.chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path))
        compiler.find.cache_clear()

    yield put
    compiler.find.cache_clear()


def test_missing_compiler_is_one_sentence(emulator, path_with):
    path_with()
    with pytest.raises(InputError) as failure:
        emulator.require()
    assert str(failure.value) == (
        "the emulated device needs g++ 12 or newer, and none is on the PATH; install one, on Debian or Ubuntu: "
        "apt install g++"
    )


def test_old_compiler_is_passed_over(emulator, path_with):
    path_with(gxx="print('11.4.0')")
    with pytest.raises(InputError, match=r"needs g\+\+ 12 or newer, and the PATH has 11\.4\.0; install"):
        emulator.require()
    path_with(gxx="print('9.4.0')", gxx_12="print('12.3.0')")
    assert Path(compiler.find().path).name == "g++-12"


def test_another_compiler_behind_the_name_is_passed_over(emulator, path_with):
    path_with(gxx="import sys; sys.exit('error: unsupported option -dumpfullversion')")
    with pytest.raises(InputError, match="none is on the PATH"):
        emulator.require()


def test_compiler_without_sanitizers(path_with):
    path_with(gxx="import sys; print('12.2.0' if sys.argv[1] == '-dumpfullversion' else sys.argv[1].split('=')[1])")
    with pytest.raises(InputError, match=r"comes without libasan\.so and libubsan\.so"):
        sanitizers.command("asan")
