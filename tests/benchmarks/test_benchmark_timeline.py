"""The timeline of a step: what starts when, what it is read from and written to, without a GPU's times to check."""

import importlib.util
import json
import math
import sys

import pytest

from benchmarks.harness.engines import STEP
from benchmarks.harness.floor import step_work
from benchmarks.profile import disassembly, timeline
from benchmarks.profile.schedule import Bar, Timeline, lay_out
from gzkern.config import load_config
from gzkern.cuda import relu
from gzkern.errors import InputError
from gzkern.runtime.capture import CapturingBackend
from gzkern.runtime.emulator import backend

BARS = [
    Bar("conv1", "conv2d_forward_specialised", False, 10),
    Bar("dense2 backward", "dense_backward_update_vectorised", True, 20),
    Bar("dense1 backward", "dense_backward_data_sum", False, 5),
    Bar("dense1 backward", "dense_backward_update_vectorised", True, 4),
    Bar("update", "nesterov_several", False, 1),
]


def test_the_side_stream_waits_for_all_before_and_delays_none():
    assert [bar.start for bar in lay_out(BARS)] == [0, 10, 10, 30, 15]
    assert [bar.start for bar in lay_out(BARS, gap=1)] == [1, 12, 12, 33, 18]
    late = [Bar("a", "a", True, 1), Bar("b", "b", False, 9), Bar("c", "c", True, 1)]
    assert [bar.start for bar in lay_out(late)] == [0, 0, 9]


def test_a_step_lasts_from_its_longest_branch_to_the_sum_of_all():
    step = Timeline("fp32", 16, "side stream", True, lay_out(BARS, 1), 1)
    assert (step.at_least, step.at_most) == (37, 45)


def test_kinds():
    assert [bar.kind for bar in BARS] == ["convolution forward", "update", "dense", "update", "update"]
    names = "warp_patches", "conv2d_backward_bias_warp", "mse_forward"
    assert [Bar("", name, False, 1).kind for name in names] == ["augmentation", "convolution backward", "rest"]


@pytest.fixture(scope="module")
def step():
    return timeline._Step(load_config("laptop", ["train.batch=2"]))


@pytest.mark.parametrize(("update", "side_stream"), [("side stream", 3), ("fused", 0)])
def test_both_ways_to_update_are_recorded(step, update, side_stream):
    assert sum(launch.side_stream for launch in step.record("fp32", update).launches) == side_stream


def test_training_takes_the_way_that_it_records(step):
    assert timeline._update(step.side_stream("fp32")) == "fused"
    assert timeline._update(step.side_stream("tf32")) == "fused"


@pytest.fixture
def measured(tmp_path, step):
    """Arguments that read what benchmarks.train_step might have written: every launch takes 10 µs."""
    key = {"name": STEP, "precision": "fp32", "batch": 2}
    names = [{"operation": each.operation, "kernel": each.kernel.name} for each in step.record("fp32").launches]
    launches = [key | name | {"ms": 0.01} for name in names]
    other = key | {"name": "predict", "operation": "conv1", "kernel": "conv2d_forward_tiled", "ms": 0.01}
    rows = [
        key | {"engine": "torch", "ms": 3.0, "floor_ms": None},
        key | {"engine": "gzkern", "ms": 0.4, "floor_ms": 0.1},
    ]
    path = tmp_path / "train_step_cuda.json"
    path.write_text(json.dumps({"rows": rows, "launches": [*launches, other]}))
    return ["--measured", str(path), "--config", "laptop", "--batch", "2"]


def test_measured_times_are_laid_out(measured, step, tmp_path, capsys):
    out = tmp_path / "timeline.json"
    assert timeline.main([*measured, "--json", str(out)]) == 0
    document = json.loads(out.read_text())
    (total,) = document["totals"]
    count = len(step.record("fp32").launches)
    expected = {"launches": count, "side_stream": 0, "at_least_us": 10 * count, "at_most_us": 10 * count}
    assert total | expected == total
    assert (total["step_us"], total["floor_us"]) == (400, 100)
    assert len(document["rows"]) == count
    assert document["times"].startswith("measured, one launch after the other")
    assert "PREDICTED" not in capsys.readouterr().out


def test_without_matplotlib_the_rows_are_written(measured, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    out, png = tmp_path / "timeline.json", tmp_path / "step.png"
    with pytest.raises(InputError, match=r"step.png: drawing needs matplotlib; pip install matplotlib$"):
        timeline.main([*measured, "--json", str(out), "--png", str(png)])
    assert json.loads(out.read_text())["rows"]
    assert not png.exists()


@pytest.mark.skipif(importlib.util.find_spec("matplotlib") is None, reason="needs matplotlib")
def test_a_picture_is_drawn(measured, tmp_path):
    png = tmp_path / "step.png"
    assert timeline.main([*measured, "--png", str(png)]) == 0
    assert png.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("no JSON", "expected what benchmarks.train_step writes on a GPU"),
        ('{"rows": []}', "expected what benchmarks.train_step writes on a GPU, got KeyError"),
        ('{"rows": [], "launches": []}', "has no launches of a step of 2 images in fp32"),
    ],
)
def test_a_file_of_something_else_is_one_sentence(text, message, tmp_path):
    path = tmp_path / "some.json"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        timeline.main(["--measured", str(path), "--config", "laptop", "--batch", "2"])


@pytest.mark.gxx
def test_equal_launches_are_traced_once():
    recorder = CapturingBackend(backend)
    for size in (1024, 1024, 2048):
        relu.forward(recorder.empty((size,)))
    pairs = list(timeline._Traces(2).of(recorder))
    assert [math.prod(launch.geometry.grid) for launch, _ in pairs] == [4, 4, 8]
    assert pairs[0][1] is pairs[1][1]
    assert pairs[2][1].total("bytes", "global", "load") == 2 * 1024


@pytest.mark.gxx
@pytest.mark.nvrtc
@pytest.mark.slow
def test_a_step_is_predicted(tmp_path, capsys):
    try:
        disassembly.require()
    except InputError as error:
        pytest.skip(str(error))
    out = tmp_path / "timeline.json"
    assert timeline.main(["--config", "laptop", "--batch", "2", "--blocks", "1", "--json", str(out)]) == 0
    assert "Times are PREDICTED on H100 SXM, not measured" in capsys.readouterr().out
    document = json.loads(out.read_text())
    assert all(row["us"] > 0.5 for row in document["rows"])
    fused, side = document["totals"]
    assert (fused["update"], fused["taken"], side["update"], side["taken"]) == ("fused", True, "side stream", False)
    assert fused["at_least_us"] == fused["at_most_us"] > fused["floor_us"]
    network = timeline._Step(load_config("laptop", ["train.batch=2"])).network
    step = step_work(network, 2)
    assert sum(row["flops"] or 0 for row in document["rows"] if row["update"] == "side stream") == step.flops
