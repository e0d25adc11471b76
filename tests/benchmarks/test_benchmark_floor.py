"""What a step and a prediction must do at least, against counts by hand for the published network."""

from math import prod

import pytest

from benchmarks.harness import floor as floors
from benchmarks.harness.peaks import peaks_of
from gzkern.config import load_config
from gzkern.models.network import empty_network

H100 = {"compute_capability": 9.0, "multiprocessors": 132, "clock_mhz": 1980.0, "peak_fp32_tflops": 66.9,
        "peak_memory_gb_s": 3352.0, "l2_bytes": 50 << 20}  # fmt: skip


@pytest.fixture(scope="module")
def published():
    return empty_network(load_config("paper"), "cpu")


@pytest.mark.parametrize(("batch", "gflop", "megabytes"), [(16, 37.53, 995), (256, 600.47, 3197)])
def test_the_work_of_a_step(published, batch, gflop, megabytes):
    work = floors.step_work(published, batch)
    assert work.flops / 1e9 == pytest.approx(gflop, abs=0.005)
    assert work.bytes / 1e6 == pytest.approx(megabytes, abs=0.5)


def test_a_step_moves_dense_weights_five_times(published):
    """What does not grow with the batch; the gradient of their input has convolutions read theirs once more."""
    fixed = 2 * floors.step_work(published, 16).bytes - floors.step_work(published, 32).bytes
    filters = sum(prod(layer.parameters()[0].shape) for layer in published.convolutions[1:])
    assert fixed == 4 * (5 * published.parameter_count + filters)


@pytest.mark.parametrize(("batch", "megabytes"), [(1, 172.5), (16, 217.0), (960, 3016.1)])
def test_the_work_of_a_prediction(published, batch, megabytes):
    work = floors.predict_work(published, batch)
    macs = [*(layer.macs(16) for layer in published.convolutions), *(layer.macs(1) for layer in published.dense)]
    assert work.flops == 2 * batch * sum(macs)
    assert work.bytes / 1e6 == pytest.approx(megabytes, abs=0.1)
    assert floors.predict_work(published, batch, 2).bytes == work.bytes // 2


def test_a_floor_says_what_binds(published):
    peaks = peaks_of(H100)
    step = floors.step_work(published, 16)
    assert floors.floor(step, peaks, "fp32") == (pytest.approx(37.53 / 66.9, abs=1e-3), "arithmetic")
    assert floors.floor(step, peaks, "tf32") == (pytest.approx(995.4 / 3352, abs=1e-3), "memory")
    assert floors.floor(step, peaks_of({}), "fp32") is None
