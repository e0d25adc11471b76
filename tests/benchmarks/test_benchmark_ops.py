"""The benchmark of the operations that are no convolutions, on the CPU and on a fake GPU."""

import json
import os
import subprocess
import sys

import pytest
from paths import TESTS, python_path

from benchmarks import ops
from benchmarks.harness.problems import layers
from benchmarks.harness.problems.operations import OPERATIONS
from benchmarks.harness.timing import SPIN
from gzkern.runtime import nvrtc, source


def test_the_published_sizes():
    assert layers.dense_sizes() == [(8192, 4096, "maxout"), (2048, 4096, "maxout"), (2048, 37, "linear")]


@pytest.mark.gxx
def test_every_operation_on_a_fake_gpu(tmp_path):
    path = tmp_path / "rows.json"
    done = subprocess.run(
        [sys.executable, str(TESTS / "on_fake_gpu" / "run_ops_on_fake_gpu.py"), "--batch", "2", "--samples", "2",
         "--baseline", "cublas,cudnn", "--json", str(path)],
        env={**os.environ, "PYTHONPATH": python_path()},
        capture_output=True,
        text=True,
        timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    rows = json.loads(path.read_text())["rows"]
    assert {row["name"] for row in rows} == set(OPERATIONS)
    assert all(row["ms"] > 0 and row["verified"]["error_over_bound"] <= 1 for row in rows)
    against = {(row["name"], row["layer"], row["pass"], row["baseline"]) for row in rows if row["ratio"]}
    products = {("dense", f"dense{n}", name, "cublas") for n in (1, 2)
                for name in ("forward", "backward_data", "backward_weights")}  # fmt: skip
    pools = {("maxpool2d", None, name, "cudnn") for name in ("forward", "backward")}
    assert against == products | pools
    assert {row["missing"] for row in rows if not row["ratio"]} == {"has no such call"}


def test_every_operation_against_pytorch(tmp_path, monkeypatch):
    pytest.importorskip("torch")
    monkeypatch.setattr(layers, "dense_sizes", lambda: [(96, 64, "maxout"), (32, 37, "linear")])
    path = tmp_path / "rows.json"
    arguments = ("--device", "cpu", "--batch", "2", "--samples", "2", "--baseline", "torch", "--json", str(path))
    assert ops.main(list(arguments)) == 0
    rows = json.loads(path.read_text())["rows"]
    lacking = {(row["name"], row["missing"]) for row in rows if row["missing"]}
    assert {name for name, _ in lacking} == {"dense", "conv2d_bias", "dropout", "warp"}
    assert ("dropout", "has no such call") in lacking
    assert all(row["ratio"] for row in rows if not row["missing"])


def test_a_bad_option(capsys):
    with pytest.raises(SystemExit) as exit_:
        ops.main(["--op", "softmax"])
    assert exit_.value.code == 2
    assert "op 'softmax': expected all or some of dense," in capsys.readouterr().err


@pytest.mark.nvrtc
def test_the_spin_compiles():
    code = source.load(SPIN.file)
    assert code.kernels == (SPIN.name,)
    assert "Compiling entry function 'spin'" in nvrtc.compile_source(code, "sm_90").log
