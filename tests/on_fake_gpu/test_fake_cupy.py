"""The tests that need a GPU, on a fake CuPy: host code on the way to a GPU, tried without one."""

import os
import subprocess
import sys

import pytest
from paths import TESTS, python_path

pytestmark = pytest.mark.gxx


def run(*arguments, gpu="H100", policy="late"):
    chosen = {"GZKERN_REQUIRE": "gpu", "FAKE_GPU": gpu, "FAKE_GPU_POLICY": policy}
    environment = {**os.environ, **chosen, "PYTHONPATH": python_path()}
    command = (sys.executable, "-m", "pytest", "-p", "fake_cupy", "-p", "no:cacheprovider", *arguments)
    return subprocess.run(
        command,
        cwd=TESTS.parent,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=1800,  # where no kernel is compiled yet
    )


def assert_all_pass(done):
    assert done.returncode == 0, done.stdout[-5000:]
    assert " passed" in done.stdout
    assert "skipped" not in done.stdout


FILES = (
    *("training/test_golden_run.py", "training/test_kernel_devices.py"),
    *("runtime/test_capture.py", "runtime/test_gpu.py"),
    *("kernels/test_operations.py", "kernels/test_philox.py"),
)


@pytest.mark.parametrize(
    "chosen",
    [
        pytest.param("(replayed and False and fp32) or real_gpu or large_arrays or philox", id="quick"),
        pytest.param("not precision and not golden and not recentres and not tf32", id="most", marks=pytest.mark.slow),
        pytest.param("precision or golden or recentres or tf32", id="rest", marks=pytest.mark.slow),
    ],
)
def test_network_training_and_operations(chosen):
    assert_all_pass(run("-v", "-m", "gpu", "-k", chosen, *(str(TESTS / file) for file in FILES)))


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["early", "random:1", "random:2", "random:3"])
def test_recorded_steps_whatever_the_device_does_first(policy):
    assert_all_pass(run("-v", "-m", "gpu", str(TESTS / "runtime" / "test_capture.py"), policy=policy))


def checks(*names):
    return [str(TESTS / "on_fake_gpu" / f"checks_{name}.py") for name in names]


def test_streams_events_and_captures():
    assert_all_pass(run("-v", *checks("staging_buffer", "capture")))


def test_shared_memory_is_opted_in_to():
    assert_all_pass(run("-v", *checks("shared_memory"), gpu="RTX4090"))


@pytest.mark.slow
@pytest.mark.parametrize("gpu", ["A100", "RTX3090", "RTX4090", "H100", "B200", "RTX5090"])
def test_each_gpu(gpu):
    assert_all_pass(run("-v", *checks("devices", "static_shared", "shared_memory"), gpu=gpu))


@pytest.mark.slow
def test_every_kernel(tmp_path):
    record = tmp_path / "kernels.json"
    assert_all_pass(run("-v", "-m", "gpu", "--record", str(record), str(TESTS / "kernels")))
    assert '"gpu": "a fake H100"' in record.read_text()


def test_an_array_of_the_host_is_refused():
    script = (
        "import numpy as np, fake_cupy as cupy\n"
        "from gzkern.cuda import relu\n"
        "x = cupy.asarray(np.ones(3, np.float32))\n"
        "assert type(relu.forward(x)) is cupy.ndarray\n"
        "try: relu.backward(x, np.ones(3, np.float32))\n"
        "except Exception as error: print(error)\n"
        "try: np.asarray(x)\n"
        "except TypeError as error: print(error)\n"
    )
    environment = {**os.environ, "PYTHONPATH": python_path()}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True)
    assert done.stdout.splitlines() == [
        "relu: expected all arrays on one device, got gradient on cuda:0, y on emulated",
        "implicit conversion to a NumPy array is not allowed",
    ], done.stderr
