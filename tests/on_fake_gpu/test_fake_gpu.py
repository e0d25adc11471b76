"""The fake GPU from outside: commands that find it, and faults of a GPU that it shows on demand."""

import json
import os
import signal
import subprocess
import sys

import pytest
from paths import TESTS, python_path

pytestmark = pytest.mark.gxx
RELU = """
import numpy as np
from gzkern.cuda import relu
from gzkern.runtime import cuda_backend
backend = cuda_backend.backend()
x = backend.asarray(np.ones(3, np.float32))
y = relu.forward(x)
print("launched", flush=True)
"""
FETCH = "print(backend.asnumpy(y))\n"


def python(*arguments, gpu="RTX4090", fault="", timeout=120):
    """A Python that finds this GPU, with this fault."""
    folders = python_path(TESTS / "fakes" / "site")
    environment = {**os.environ, "PYTHONPATH": folders, "FAKE_GPU": gpu, "FAKE_GPU_FAULT": fault}
    return subprocess.run(
        [sys.executable, *arguments], env=environment, capture_output=True, text=True, timeout=timeout, cwd=TESTS.parent
    )


def test_a_command_finds_the_gpu():
    done = python("-m", "gzkern", "info", "--json")
    (gpu,) = json.loads(done.stdout)["devices"]["cuda"]["gpus"]
    assert (gpu["gpu"], gpu["compute_capability"], gpu["multiprocessors"]) == ("a fake RTX4090", 8.9, 128)


def test_without_a_fault_nothing_breaks():
    assert python("-c", RELU + FETCH, fault="nan:relu_backward").stdout == "launched\n[1. 1. 1.]\n"


def test_a_kernel_that_hangs():
    with pytest.raises(subprocess.TimeoutExpired) as hung:
        python("-c", RELU + FETCH, fault="hang:relu_forward", timeout=5)
    assert hung.value.stdout == b"launched\n"


def test_a_kernel_that_crashes():
    done = python("-c", RELU + FETCH, fault="crash:relu_forward")
    assert (done.returncode, done.stdout) == (-signal.SIGSEGV, "launched\n")


def test_a_kernel_that_computes_nan():
    assert python("-c", RELU + FETCH, fault="nan:relu_forward").stdout == "launched\n[nan nan nan]\n"


AGAIN = """
from gzkern.errors import GzkernError
for call in (lambda: backend.asnumpy(y), lambda: relu.forward(x), lambda: backend.empty((3,)), backend.free_bytes):
    try: call()
    except GzkernError as error: print(error)
"""


def test_an_illegal_address_breaks_every_later_call():
    done = python("-c", RELU + AGAIN, fault="illegal:relu_forward")
    first, *later = done.stdout.splitlines()
    assert first == "launched"
    assert len(later) == 4
    assert all(line.endswith("cudaErrorIllegalAddress: an illegal memory access was encountered") for line in later)
    assert later[0].startswith("GPU 0: copying from the GPU, or what was launched before: ")


def test_memory_that_does_not_suffice():
    done = python("-c", RELU + "backend.empty((2**20,))", fault=f"memory:{2**20}")
    assert "OutOfMemory: GPU 0: an array of 0.0 GiB does not fit" in done.stderr


@pytest.mark.parametrize(
    ("fault", "why"),
    [("driver", "no NVIDIA driver is loaded"), ("nvrtc", "NVRTC cannot be loaded (CuPy failed to load libnvrtc.so.13")],
)
def test_a_machine_that_lacks_a_part(fault, why):
    done = python("-c", "from gzkern.runtime.gpu import missing; print(missing())", fault=fault)
    assert why in done.stdout


def test_a_kernel_for_another_gpu_is_a_trap():
    launch = """
import numpy as np
from gzkern.runtime import cuda_backend
backend = cuda_backend.backend()
tile = 3, 3, 1, 32, 2, 2, 1, 2
function = backend.get_function("conv2d/forward_wgmma", "conv2d_forward_wgmma_tf32", tile)
x = backend.empty((4,))
function((1,), (128,), (x,) * 4 + (backend.empty((4,), np.uint8),), 0)
backend.asnumpy(x)
"""
    done = python("-c", launch, gpu="RTX4090")
    assert "cudaErrorLaunchFailure" in done.stderr, done.stderr
