"""What the benchmarks believe: results within their bounds, rows below the peaks."""

import numpy as np
import pytest

from benchmarks.harness.peaks import Peaks, clocks, peaks_of
from benchmarks.harness.verify import LIMITS, bound, worst
from gzkern.core.bfloat16 import from_bfloat16, to_bfloat16

H100 = {
    "compute_capability": 9.0,
    "multiprocessors": 132,
    "clock_mhz": 1755.0,
    "peak_fp32_tflops": 59.3,
    "peak_memory_gb_s": 3352.0,
    "l2_bytes": 50 << 20,
}


def test_worst():
    exact = np.array([1.0, 2.0])
    assert worst(np.array([1.0, 2.5], np.float32), exact, 1.0) == 0.5
    assert worst(exact.astype(np.float32), exact, 0.0) == 0.0
    assert worst(np.array([1.0, 2.5], np.float32), exact, 0.0) == np.inf
    assert worst(np.array([1.0, np.nan], np.float32), exact, 1.0) == np.inf
    assert worst(np.zeros(3, np.float32), exact, 10.0) == np.inf
    assert worst(np.float32(3), np.float64(2), 2.0) == 0.5


def test_tf32_is_found_out_where_float32_is_asked_for():
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, 200, 800)).astype(np.float32)
    exact, squares = (a.astype(np.float64) * b).sum(1), (a.astype(np.float64) ** 2 * b**2).sum(1)
    rounded = ((x.view(np.uint32) + 0x1000 & 0xFFFFE000).view(np.float32) for x in (a, b))
    tf32 = np.prod([x.astype(np.float64) for x in rounded], axis=0).sum(1)
    float32 = (a * b).sum(1, dtype=np.float32)
    assert worst(float32, exact, bound("fp32", 800, squares, exact)) < LIMITS["ours"]
    assert worst(tf32, exact, bound("fp32", 800, squares, exact)) > 5 * LIMITS["theirs"]
    assert worst(tf32, exact, bound("tf32", 800, squares, exact)) < LIMITS["ours"]
    assert worst(exact + 1, exact, bound("tf32", 800, squares, exact)) > LIMITS["theirs"]


def test_bfloat16():
    values = np.array([1.0, 1.00390625, 1.01171875, -3.0e38, 1e-40], np.float32)
    assert to_bfloat16(values)[:3].tolist() == [0x3F80, 0x3F80, 0x3F82]  # ties to even
    back = from_bfloat16(to_bfloat16(values))
    assert (np.abs(back - values) <= 2.0**-8 * np.abs(values) + 1e-40).all()
    assert (from_bfloat16(to_bfloat16(back)) == back).all()


def row(**changes):
    known = {"name": "conv2d", "layer": "conv2", "pass": "forward", "variant": "pool", "precision": "fp32", "batch": 16}
    return {**known, "l2": "cold", "tflops": 40.0, "gb_s": 1000.0, **changes}


def test_rows_above_the_peak_are_refused():
    peaks = peaks_of(H100)
    assert peaks.tflops["tf32"] == pytest.approx(474, abs=1)
    assert peaks.tflops["bf16"] == pytest.approx(949, abs=1)
    assert peaks.tflops["fp32x3"] == pytest.approx(158, abs=1)
    assert peaks.beaten_by(row()) is None
    assert "conv2d conv2 forward pool fp32, batch 16, cold cache: 60.0 TFLOP/s is above 59.3" in peaks.beaten_by(
        row(tflops=60.0)
    )
    assert peaks.beaten_by(row(tflops=60.0, precision="tf32")) is None
    assert "3400 GB/s is above 3352" in peaks.beaten_by(row(gb_s=3400.0))
    assert peaks.beaten_by(row(gb_s=3400.0, l2="warm")) is None  # from the cache
    assert Peaks({}, None, 0).beaten_by(row(tflops=1e9, gb_s=1e9)) is None


def test_an_unknown_architecture_has_no_peak_of_its_tensor_cores():
    assert peaks_of({**H100, "compute_capability": 7.5}).tflops["tf32"] is None
    assert peaks_of({}).tflops == {}


def test_clocks_are_none_where_nothing_tells_them():
    assert clocks() is None or clocks()["sm_mhz"] > 0
