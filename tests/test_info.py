"""gzkern info and gzkern warmup, on machines with and without what the devices need."""

import json
import re

import pytest

from gzkern import device as choice
from gzkern.cli.main import main
from gzkern.core import environment
from gzkern.errors import InputError
from gzkern.models import algorithms as chosen
from gzkern.models.algorithms import compiled as chosen_of
from gzkern.runtime import cuda_backend, nvrtc, source
from gzkern.runtime import gpu as device
from gzkern.runtime.backend import Limits
from gzkern.runtime.emulator import compiler

H100 = {
    "gpu": "NVIDIA H100 80GB HBM3",
    "driver": "13.0",
    "compute_capability": 9.0,
    "architecture": "sm_90a",
    "memory_bytes": 80 * 2**30,
    "multiprocessors": 132,
    "clock_mhz": 1980.0,
    "memory_clock_mhz": 2619.0,
    "l2_bytes": 50 * 2**20,
    "peak_fp32_tflops": 66.9,
    "peak_memory_gb_s": 3352.3,
}


def test_as_json(capsys):
    assert main(["info", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["devices"].keys() == {"cpu", "emulated", "cuda"}
    assert found["devices"]["cpu"]["cores"] >= 1
    for name in ("emulated", "cuda"):
        assert len(found["devices"][name]) == 1
    assert found["kernels"]["files"] == len(source.stems())
    assert found["kernels"]["kernels"] >= found["kernels"]["files"]
    assert found["numpy"]


def test_to_read(capsys):
    assert main(["info"]) == 0
    out = capsys.readouterr().out
    for word in ("gzkern ", "Python ", "NumPy ", "NVRTC ", "\ncpu ", "\nemulated ", "\ncuda", "\nkernels ", "\ncache "):
        assert word in out


def test_a_machine_with_nothing(monkeypatch, capsys):
    def nothing(*arguments):
        raise InputError("the emulated device needs g++")

    def no_module(*arguments):
        raise ModuleNotFoundError("No module named 'numba'")

    monkeypatch.setattr(compiler, "find", nothing)
    monkeypatch.setattr(nvrtc, "version", no_module)
    monkeypatch.setattr(device, "missing", lambda: "CuPy is not installed; pip install it")
    monkeypatch.setattr("gzkern.device.set_threads", no_module)
    monkeypatch.setattr(environment, "installed_version", lambda package: None)
    monkeypatch.setenv("GZKERN_CACHE", "/proc/none")
    assert main(["info"]) == 0
    out = capsys.readouterr().out
    assert "emulated  not here: the emulated device needs g++\n" in out
    assert "cuda      not here: CuPy is not installed; pip install it\n" in out
    assert "CuPy –, NVRTC –\n" in out
    assert " – threads\n" in out
    assert "cache     compiled code cannot be kept in /proc/none; set GZKERN_CACHE" in out
    assert main(["info", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["nvrtc"] is None


def test_a_machine_with_gpus(monkeypatch, capsys):
    monkeypatch.setattr(device, "missing", lambda: None)
    monkeypatch.setattr(cuda_backend.CudaBackend, "limits", Limits(80, 108, 163 * 1024))
    unknown = {**H100, "peak_fp32_tflops": None, "peak_memory_gb_s": None}
    monkeypatch.setattr(device, "describe_all", lambda: [H100, unknown])
    assert main(["info"]) == 0
    out = capsys.readouterr().out
    assert "cuda:0    NVIDIA H100 80GB HBM3, compute capability 9.0 (sm_90a), driver for CUDA 13.0\n" in out
    assert "80.0 GiB, L2 50 MiB, 132 multiprocessors at 1980 MHz, memory at 2619 MHz\n" in out
    assert "peaks by these clocks: 66.9 TFLOP/s in FP32 and 3352 GB/s\n" in out
    assert "cuda:1 " in out
    assert "peaks by these clocks: unknown\n" in out
    assert "\nversions that cuda:0 takes for the published network's convolutions, at batch 16 and 256:\n" in out
    assert "wgmma" not in out, "of compute capability 9.0 alone"
    assert main(["info", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["devices"]["cuda"]["gpus"][0] == H100


def test_warmup_of_the_cpu(capsys):
    assert main(["warmup", "--device", "cpu"]) == 0
    assert capsys.readouterr().out.startswith("device cpu has no kernels")


@pytest.mark.gxx
def test_warmup_of_the_emulated_device(monkeypatch, capsys):
    monkeypatch.setattr(source, "stems_for_every_size", lambda: ["maxout", "relu"])
    assert main(["warmup", "--device", "emulated"]) == 0
    first, *rest = capsys.readouterr().out.splitlines()
    assert first == "compiling 2 files for device emulated"
    assert [line.split()[1:] for line in rest] == [["s", "maxout"], ["s", "relu"]]


@pytest.mark.nvrtc
def test_warmup_of_a_gpu(monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("GZKERN_CACHE", str(tmp_path))
    monkeypatch.setattr(device, "missing", lambda: None)
    monkeypatch.setattr(device, "notes", list)
    monkeypatch.setattr(device, "capability", lambda number: 90)
    monkeypatch.setattr(cuda_backend.CudaBackend, "limits", Limits(90, 132, 227 * 1024))
    monkeypatch.setattr(choice, "_device", choice._device.__wrapped__)
    monkeypatch.setattr(source, "stems_for_every_size", lambda: ["maxout", "relu"])
    monkeypatch.setattr(chosen, "compiled", lambda limits, *asked: chosen_of(limits, *asked)[:1])
    assert main(["warmup", "--device", "cuda"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "compiling 3 files for device cuda"
    assert re.fullmatch(r" *[\d.]+ s  conv2d/forward_specialised <6, 6, 2, .*>", lines[3])
    assert len(list((tmp_path / "cuda").glob("*-sm_90a-*.bin"))) == 3


@pytest.mark.parametrize(
    "arguments", [["--precision", "fp33"], ["--precision", ""], ["--batch", "16,"], ["--batch", "0"]]
)
def test_warmup_refuses(arguments, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["warmup", *arguments])
    assert "expected" in capsys.readouterr().err


def test_warmup_of_several_precisions_and_batches(monkeypatch, capsys):
    asked = []
    monkeypatch.setattr(device, "missing", lambda: None)
    monkeypatch.setattr(device, "notes", list)
    monkeypatch.setattr(cuda_backend.CudaBackend, "limits", Limits(90, 132, 227 * 1024))
    monkeypatch.setattr(cuda_backend.CudaBackend, "compile_all", lambda self, units: asked.extend(units) or {})
    monkeypatch.setattr(choice, "_device", choice._device.__wrapped__)
    assert main(["warmup", "--device", "cuda", "--precision", "all", "--batch", "16,256"]) == 0
    assert len(set(asked)) == len(asked)
    for precision in ("fp32", "tf32", "fp32x3", "bf16"):
        for batch in (16, 256):
            assert set(chosen_of(Limits(90, 132, 227 * 1024), batch, precision)) <= set(asked)


def test_what_the_network_needs_compiled():
    limits = Limits(90, 132, 227 * 1024)
    units = chosen_of(limits, 16, "fp32")
    assert [file for file, _ in units].count("conv2d/forward_specialised") == 4
    assert {file for file, _ in units} <= set(source.stems()) - set(source.stems_for_every_size())
    assert len(set(units)) == len(units) == 11, "all passes of the layers, but the gradient of the images"


def test_warmup_of_a_device_that_is_not_here(monkeypatch, capsys):
    monkeypatch.setattr(device, "missing", lambda: "no NVIDIA driver is loaded")
    assert main(["warmup", "--device", "cuda"]) == 2
    assert "no NVIDIA driver is loaded, or use --device cpu" in capsys.readouterr().err


def test_the_memory_of_a_step(capsys):
    assert main(["info", "--memory", "--json", "--config", "laptop", "--batch", "32"]) == 0
    memory = json.loads(capsys.readouterr().out)
    parts = ("weights", "velocities", "staging_buffers", "validation", "arena")
    assert memory["total"] == sum(memory[name] for name in parts)
    assert memory["weights"] == 4 * 1_258_597
    assert memory["arena"] == max(p["offset"] + -(-p["bytes"] // 256) * 256 for p in memory["places"])
    assert main(["info", "--memory", "--config", "laptop", "--batch", "32"]) == 0
    out = capsys.readouterr().out
    assert "a training step of 32 images in fp32" in out
    assert len(out.splitlines()) == 9 + len(memory["places"])
