"""The generated tables: what they show, what they refuse, and that the documents have them."""

import json

import pytest

from benchmarks import tables, train_step
from benchmarks.harness.comparison import MEASURED
from benchmarks.harness.engines import PREDICT, STEP
from benchmarks.harness.report import LATE, RESULTS
from gzkern.errors import GzkernError
from gzkern.runtime import source

FACTS = {"date": "2030-01-02T03", "gpu": "some GPU", "driver": "1.2"}


@pytest.fixture
def record(tmp_path):
    """Write rows into a file of results; return their folder."""

    def record(name, rows, **facts):
        (tmp_path / name).write_text(json.dumps({**FACTS, **facts, "rows": rows}))
        return tmp_path

    return record


def train_row(name, engine, ms, **known):
    common = {"name": name, "engine": engine, "precision": "tf32", "batch": 16, "repeats": 15, "engine_version": "2"}
    times = {"ms": ms, "ms_p20": ms, "ms_p80": ms, "failed": None}
    return {**dict.fromkeys(train_step.DERIVED), **common, **times, **known}


def test_training_against_every_engine(record):
    ours = {"images_per_s": 16e3, "paper_run_minutes": 26.0, "floor_percent": 29.7, "ratio": 2.0}
    rows = [
        train_row(STEP, "gzkern", 1.0, **ours),
        train_row(STEP, "torch", 4.0),
        train_row(STEP, "torch compiled", None, failed="RuntimeError: no compiler"),
        train_row(STEP, "torch graph", 3.0),
        train_row(STEP, "torch channels-last graph", 2.0),
        train_row(PREDICT, "gzkern", 0.5, images_per_s=32e3, submission_minutes=42.5),
        train_row(PREDICT, "gzkern", None, failed=LATE),
    ]
    lines = tables.train_text(record("train_step_cuda.json", rows)).splitlines()
    assert lines[2] == "| tf32 | 16 | 1 (1–1) | 16,000 | 26.0 min | 30 % | 4 | – | – | 2 | 2.00 |"
    assert lines[6] == "| tf32 | 16 | 0.5 (0.5–0.5) | 32,000 | 42.5 min | – | – | – | – | – | – |"
    assert lines[0].count("|") == lines[1].count("|") == lines[2].count("|")
    assert lines[8].startswith("some GPU, driver 1.2, 2030-01-02: medians of 15 samples")
    rows.append(train_row(PREDICT, "gzkern", None, failed="an answer is off by 1.0e-03"))
    with pytest.raises(GzkernError, match=r"train_step_cuda.json: an answer is off by"):
        tables.train_text(record("train_step_cuda.json", rows))


def conv_row(baseline, ms, **known):
    place = {"layer": "conv2", "pass": "forward", "variant": "pool", "precision": "fp32", "batch": 16, "l2": "cold"}
    times = {"ms": 0.1, "ms_p20": 0.1, "ms_p80": 0.1, "tflops": 10.0, "peak_percent": 16.9, "samples": 3}
    against = {"baseline": baseline, "plan": "N,H,W,C", "baseline_ms": ms, "ratio": ms / 0.1}
    verified = {"device": "some GPU", "verified": {"error_over_bound": 0.5}}
    return {**dict.fromkeys(MEASURED), **place, **times, **against, **verified, **known}


def test_convolutions_against_the_fastest_baseline(record):
    rows = [conv_row("torch", 0.3), conv_row("cudnn", 0.2), conv_row("cudnn", 0.1, l2="warm")]
    lines = tables.conv_text(record("conv_cuda.json", rows)).splitlines()
    assert lines[2] == "| conv2 | forward | pool | fp32 | 16 | 0.1 (0.1–0.1) | 10 | 17 | cudnn: N,H,W,C | 0.2 | 2.00 |"
    assert lines[4].startswith("some GPU, driver 1.2, 2030-01-02: medians of 3 samples")
    assert len(lines) == 5
    with pytest.raises(GzkernError, match=r"conv_cuda.json: off by 2"):
        tables.conv_text(record("conv_cuda.json", [conv_row("cudnn", 0.2, error="off by 2")]))


def test_what_is_not_measured_is_said_with_its_command(tmp_path):
    assert tables.train_text(tmp_path).startswith("Not measured; `python -m benchmarks.train_step --device cuda")
    assert tables.conv_text(tmp_path).startswith("Not measured; `python -m benchmarks.conv --json")
    with pytest.raises(GzkernError, match="nothing is recorded yet; run make test-all"):
        tables.kernel_text(tmp_path)


def test_kernels_by_device(record):
    kernels = [kernel for stem in source.stems() for kernel in source.load(stem).kernels]
    rows = [{"device": "emulated", "kernel": name, "proof": "float64", "error": 0.5, "runs": 1} for name in kernels]
    rows.append({"device": "emulated", "kernel": kernels[0], "proof": "tsan", "error": 0.0, "runs": 3})
    rows.append({"device": "cpu", "kernel": "relu forward", "proof": "float64", "error": 0.0, "runs": 1})
    machine = {"processor": "some CPU", "gxx": "12", "failed": 0}
    lines = tables.kernel_text(record("kernels_emulated.json", rows, **machine)).splitlines()
    assert f"| `{kernels[0]}` | – | 0.50 | not run yet | TSan: 3 |" in lines
    assert "| `relu_forward` | exact | 0.50 | not run yet | – |" in lines
    for proofs, facts, reason in ((rows[1:], {}, f"recorded without {kernels[0]}"), (rows, {"failed": 2}, "2 tests")):
        with pytest.raises(GzkernError, match=reason):
            tables.kernel_text(record("kernels_emulated.json", proofs, **machine | facts))


def test_a_table_is_written_between_its_marks(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "ROOT", tmp_path)
    monkeypatch.setattr(tables, "RESULTS", tmp_path)
    readme, (begin, end) = tmp_path / "README.md", tables.marks("conv")
    readme.write_text(f"before\n{begin}\nold\n{end}\nafter\n")
    assert tables.main(["conv"]) == 0
    assert readme.read_text() == f"before\n{begin}\n{tables.conv_text(tmp_path)}\n{end}\nafter\n"


@pytest.mark.parametrize("name", tables.TABLES)
def test_the_documents_have_the_tables_of_what_is_recorded(name):
    file, text = tables.TABLES[name]
    begin, end = tables.marks(name)
    assert f"{begin}\n{text(RESULTS)}\n{end}" in (tables.ROOT / file).read_text(encoding="utf-8")
