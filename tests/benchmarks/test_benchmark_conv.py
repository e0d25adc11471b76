"""The benchmarks of kernels end to end: on the CPU, emulated, on a fake GPU, and on a missing one."""

import json
import os
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from paths import TESTS, python_path

from benchmarks import conv, ops
from benchmarks.harness import comparison
from benchmarks.harness.measuring import Harness
from benchmarks.harness.operation_counts import Work
from benchmarks.harness.peaks import peaks_of
from benchmarks.harness.problems.conv2d import ConvProblem
from benchmarks.harness.problems.layers import published, small
from benchmarks.harness.problems.problem import Contender
from benchmarks.harness.roofline import draw
from gzkern.core.shapes import Conv2dSizes
from gzkern.runtime.gpu import missing

KEYS = {
    *("name", "layer", "pass", "variant", "version", "precision", "batch", "ms", "ms_p20", "ms_p80", "tflops"),
    *("peak_percent", "gb_s", "memory_percent", "baseline", "ratio", "baseline_ms", "plan", "l2", "clocks_before"),
    *("clocks_after", "device", "verified", "predicted_ms", "missing", "error", "samples", "flops", "bytes"),
}


@pytest.fixture
def run(tmp_path):
    """Run a command; its exit code and what it wrote."""

    def run(command, *arguments):
        path = tmp_path / "rows.json"
        code = command.main([*arguments, "--json", str(path)])
        document = json.loads(path.read_text())
        assert {"command", "date", "commit", "packages"} <= document.keys()
        assert all(set(row) == KEYS for row in document["rows"])
        return code, document["rows"]

    return run


@pytest.fixture
def small_layers(monkeypatch):
    monkeypatch.setattr(
        conv, "published", lambda layer, batch: (small(published(layer, batch)[0]), published(layer, batch)[1])
    )


def test_the_published_layers():
    found = {layer: published(layer, 1) for layer in conv.LAYERS}
    assert found == {
        "conv1": (Conv2dSizes(3, 45, 45, 16, 6, 6, 32), "pool"),
        "conv2": (Conv2dSizes(32, 20, 20, 16, 5, 5, 64), "pool"),
        "conv3": (Conv2dSizes(64, 8, 8, 16, 3, 3, 128), "relu"),
        "conv4": (Conv2dSizes(128, 6, 6, 16, 3, 3, 128), "pool"),
    }


def test_on_the_cpu_rows_are_measured_and_verified(run, small_layers):
    arguments = ("--device", "cpu", "--batch", "2", "--samples", "2", "--precision", "fp32,tf32", "--layer", "conv2")
    code, rows = run(conv, *arguments, "--baseline", "cudnn")
    assert code == 0
    measured = [row for row in rows if row["precision"] == "fp32"]
    assert [(row["pass"], row["variant"], row["l2"]) for row in measured] == [
        (name, epilogue, l2)
        for epilogue in ("pool", "plain")
        for name in ("forward", "backward_data", "backward_weights")
        for l2 in ("cold", "warm")
    ]
    for row in measured:
        assert row["ms_p20"] <= row["ms"] <= row["ms_p80"]
        assert row["tflops"] == pytest.approx(row["flops"] / row["ms"] / 1e9, rel=1e-3)
        assert row["gb_s"] == pytest.approx(row["bytes"] / row["ms"] / 1e6, rel=1e-3)
        assert 0 < row["verified"]["error_over_bound"] <= 1
        assert row["missing"] == "cuDNN runs on a GPU alone"
        assert row["ratio"] is row["peak_percent"] is row["predicted_ms"] is row["error"] is None
    assert all("no kernel of this precision" in row["missing"] for row in rows if row["precision"] == "tf32")


def test_against_pytorch_on_the_cpu(run, small_layers):
    pytest.importorskip("torch")
    arguments = ("--device", "cpu", "--batch", "2", "--samples", "3", "--precision", "fp32", "--layer", "conv1,conv3")
    code, rows = run(conv, *arguments, "--baseline", "torch")
    assert code == 0
    for row in rows:
        assert row["ratio"] == pytest.approx(row["baseline_ms"] / row["ms"], rel=1e-3)
        assert row["plan"] in ("N,C,H,W", "N,H,W,C")
        assert row["missing"] is None


@pytest.mark.gxx
def test_emulated_everything_is_verified_and_nothing_timed(run):
    code, rows = run(conv, "--device", "emulated", "--layer", "conv3", "--pass", "forward", "--precision", "fp32")
    assert code == 0
    assert [row["variant"] for row in rows] == ["relu", "plain"]
    for row in rows:
        assert row["ms"] is None
        assert row["missing"] == "not timed: only verified"
        assert row["version"].startswith("conv2d_forward")
        assert row["verified"]["error_over_bound"] <= 1


@pytest.mark.gxx
@pytest.mark.parametrize(
    ("layers", "precisions"),
    [("conv3", ["fp32"]), pytest.param("conv2,conv3", ["fp32", "tf32"], marks=pytest.mark.slow)],
)
def test_on_a_fake_gpu_against_a_fake_cudnn(layers, precisions, tmp_path):
    path, notes = tmp_path / "rows.json", tmp_path / "notes.json"
    script = str(TESTS / "on_fake_gpu" / "run_conv_on_fake_gpu.py")
    arguments = ("--batch", "2", "--samples", "2", "--precision", ",".join(precisions), "--layer", layers)
    done = subprocess.run(
        [sys.executable, script, str(notes), *arguments, "--baseline", "cudnn,torch", "--json", str(path)],
        env={**os.environ, "PYTHONPATH": python_path()},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    document = json.loads(path.read_text())
    assert document["gpu"] == "a fake H100"
    rows = [row for row in document["rows"] if row["baseline"] == "cudnn"]
    assert len(rows) == len(layers.split(",")) * len(precisions) * 2 * 3 * 2  # forms, passes, states of the cache
    for row in rows:
        assert row["ratio"] == pytest.approx(row["baseline_ms"] / row["ms"], rel=1e-3)
        assert "right" in row["plan"]  # and not the plan that is fast and wrong
        assert row["peak_percent"] > 0
        assert row["memory_percent"] > 0
    inputs = ["DOWN_CONVERT_INPUTS", "REDUCED_PRECISION_REDUCTION"]
    asked = json.loads(notes.read_text())
    assert asked[0] == ["TENSOR_CORE", *inputs]
    assert asked[-1] == (["TENSOR_CORE", *inputs] if precisions[-1] == "fp32" else inputs)


@pytest.mark.parametrize("command", [conv, ops])
def test_without_a_gpu_the_rows_say_so(command, run):
    if missing() is None:
        pytest.skip("there is a GPU")
    what = ("--layer", "conv3") if command is conv else ("--op", "clip,mse")
    code, rows = run(command, *what, "--batch", "2")
    assert code == 0
    assert rows
    for row in rows:
        assert row["ms"] is None
        assert row["missing"].startswith("device 'cuda': ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--layer", "conv5"], "layer 'conv5': expected all or some of conv1,conv2,conv3,conv4"),
        (["--pass", "sideways"], "pass 'sideways': expected all or some of forward"),
        (["--precision", "fp32,fp8"], "precision 'fp8': expected all or some of fp32,tf32,fp32x3,bf16"),
        (["--precision", ""], "precision '': expected"),
        (["--baseline", "mkl"], "baseline 'mkl': expected cudnn,torch,cublas"),
        (["--baseline", "cublas"], "baseline cublas: has no convolutions"),
        (["--batch", "0"], "'0': expected a whole number from 1"),
        (["--samples", "few"], "'few': expected a whole number from 1"),
        (["--device", "tpu"], "invalid choice"),
        (["--json", str(TESTS)], "is a directory"),
        (["--batch", "64", "--pass", "backward_data"], "nothing to measure"),
        (["--layer", "conv1", "--pass", "backward_data"], "nothing to measure"),
    ],
)
def test_bad_options(arguments, message, capsys):
    with pytest.raises(SystemExit) as exit_:
        conv.main(arguments)
    assert exit_.value.code == 2
    assert message in capsys.readouterr().err


def test_the_order_is_most_telling_first():
    options = conv._parse(["--device", "cuda"])
    listed = [(p.precision, p.batch, p.epilogue, p.pass_name, p.layer) for p in conv.convolutions(options)]
    assert listed[0] == ("fp32", 256, "pool", "forward", "conv2")
    assert listed[1] == ("fp32", 256, "pool", "forward", "conv1")
    assert len(listed) == 4 * 2 * (2 * 11 + 3 * 4)
    assert {batch for _, batch, *_ in listed} == {1, 16, 64, 256, 960}


class Slowly:
    """A stopwatch by which everything takes a given time."""

    def __init__(self, seconds):
        self.seconds = seconds

    def time(self, call, count, cold, ahead):
        call()
        return count * self.seconds, 0.0


def problem(result=1.0):
    ours = Contender("ours", lambda: None, lambda: np.full(2, result))
    return SimpleNamespace(
        name="conv2d", layer="conv2", pass_name="forward", variant="pool", precision="fp32", batch=16,
        checked="float64",
        work=Work(10**9, 10**6), ours=lambda device: ours, check=lambda got: float(np.abs(got - 1).max()),
    )  # fmt: skip


def new_harness(seconds, **changes):
    peaks = peaks_of({"compute_capability": 9.0, "multiprocessors": 132, "clock_mhz": 1755.0, "peak_fp32_tflops": 59.3,
                      "peak_memory_gb_s": 3352.0, "l2_bytes": 50 << 20})  # fmt: skip
    return Harness("cuda", SimpleNamespace(name="cuda"), None, Slowly(seconds), 3, peaks, **changes)


def test_a_row_above_the_peak_fails_the_run(capsys):
    rows, code = comparison.compare([problem()], new_harness(1e-4), [], None)
    assert code == 0
    assert rows[0]["peak_percent"] == pytest.approx(100 * 10 / 59.3)
    rows, code = comparison.compare([problem()], new_harness(1e-5), [], None)
    assert code == 1
    assert "100.0 TFLOP/s is above 59.3, the peak of this device" in rows[0]["error"]
    assert rows[0]["error"] in capsys.readouterr().err


def test_a_wrong_result_fails_the_run_and_is_not_timed():
    rows, code = comparison.compare([problem(result=3.0)], new_harness(1e-4), [], None)
    assert code == 1
    assert rows[0]["ms"] is None
    assert "conv2d conv2 forward pool fp32, batch 16: off by 2 times" in rows[0]["error"]


def test_a_problem_that_breaks_leaves_the_others(tmp_path):
    broken = problem()
    broken.ours = lambda device: 1 / 0
    path = tmp_path / "rows.json"
    rows, code = comparison.compare([broken, problem()], new_harness(1e-4), [], str(path))
    assert code == 1
    assert "ZeroDivisionError" in rows[0]["error"]
    assert rows[1]["ms"] == pytest.approx(0.1)
    assert json.loads(path.read_text())["rows"] == rows


def test_what_there_is_no_time_for_is_listed():
    rows, code = comparison.compare([problem()], new_harness(1e-4, deadline=0.0), [], None)
    assert code == 0
    assert rows[0]["missing"] == "no time left"


def test_the_fastest_plan_whose_result_is_right_is_the_baseline(monkeypatch):
    plans = [
        Contender("wrong", lambda: None, lambda: np.full(2, 99.0)),
        Contender("broken", lambda: 1 / 0, lambda: np.ones(2)),
        Contender("right", lambda: None, lambda: np.ones(2)),
    ]
    library = SimpleNamespace(missing=lambda device: None, contenders=lambda problem, device: iter(plans))
    monkeypatch.setitem(comparison.BASELINES, "cudnn", library)
    rows, _ = comparison.compare([problem()], new_harness(1e-4), ["cudnn"], None)
    assert [row["plan"] for row in rows] == ["right", "right"]
    assert rows[0]["ratio"] == 1.0
    del plans[2]
    rows, _ = comparison.compare([problem()], new_harness(1e-4), ["cudnn"], None)
    assert "broken: division by zero" in rows[0]["missing"]
    assert "wrong: off by 98.0 times the bound" in rows[0]["missing"]


def test_the_roofline_is_drawn(tmp_path):
    pytest.importorskip("matplotlib")
    here = new_harness(1e-4)
    rows, _ = comparison.compare([problem()], here, [], None)
    draw(rows, here.peaks, str(tmp_path / "some.png"))
    draw([], here.peaks, str(tmp_path / "none.png"))
    for name in ("some.png", "none.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")


def test_a_gradient_of_the_weights_is_checked_on_filters_of_both_ends():
    sizes = Conv2dSizes(3, 6, 5, 8, 2, 3, 4)
    problem = ConvProblem("conv1", "backward_weights", "pool", "fp32", 1, sizes)
    from gzkern.device import select

    device = select("cpu")
    ours = problem.ours(device)
    ours.run()
    got = ours.fetch()
    assert got.shape == sizes.weight
    assert problem.check(got) < 1
    got[2, 1, 2, 3] += 1
    assert problem.check(got) > 1


@pytest.mark.parametrize("pass_name", ["forward", "backward_data", "backward_weights"])
@pytest.mark.parametrize("epilogue", ["pool", "relu", "plain"])
@pytest.mark.parametrize("N", [1024, 528])
def test_many_images_that_repeat_are_checked_as_all_of_them(N, epilogue, pass_name):
    from gzkern.device import select

    problem = ConvProblem("conv1", pass_name, epilogue, "fp32", N // 16, Conv2dSizes(2, 5, 4, N, 2, 3, 3))
    ours = problem.ours(select("cpu"))
    ours.run()
    assert problem.check(ours.fetch()) < 1
