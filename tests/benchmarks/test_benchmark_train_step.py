"""The benchmark of the training step: its settings, engines that fail alone, rows."""

import dataclasses
import json
import os
import subprocess
import sys
from functools import partial

import numpy as np
import pytest
import tomli_w
from paths import TESTS, python_path
from small_configs import small_config

from benchmarks import train_step
from benchmarks.harness.engines import PREDICT, STEP, Case, Engine, Process
from benchmarks.harness.peaks import Peaks, peaks_of
from benchmarks.harness.turns import Measured, take_turns
from gzkern.config import load_config


class Fake(Engine):
    """Answers that are right, or what it is told to do instead."""

    def __init__(self, case, *, offset=0.0, loss=0.5, breaks=None, dies=None):
        super().__init__()
        if breaks == "start":
            raise ValueError("no such thing here")
        self._offset, self._loss, self._breaks, self._dies = offset, loss, breaks, dies

    def start(self, what):
        def call():
            if what == self._dies:
                raise SystemExit
            if what == self._breaks:
                raise MemoryError("more than there is")

        return call

    def fetch(self):
        return np.full((2, 3), 0.25 + self._offset, np.float32)

    def loss(self):
        return self._loss

    def peak_bytes(self):
        return 5 << 20

    def python_share(self):
        return 0.01


EXACT = np.full((4, 3), 0.25)


def match(**engines):
    """Two rounds of both passes by fake engines; "gzkern" is always one."""
    case = Case(load_config("laptop"), "cpu", "fp32", 1)
    contenders = {name: (partial(Fake, **how), case) for name, how in {"gzkern": {}, **engines}.items()}
    return take_turns(contenders, (STEP, PREDICT), 2, EXACT)


def test_engines_fail_alone():
    found = match(
        absent={"breaks": "start"}, broken={"breaks": STEP}, wrong={"offset": 1e-3}, astray={"loss": float("nan")},
        dead={"dies": STEP},
    )  # fmt: skip
    for what in (STEP, PREDICT):
        ours = found[what, "gzkern"]
        assert ours.failed is None
        assert len(ours.seconds) == 2
        assert ours.peak_bytes == 5 << 20
        assert found[what, "absent"].failed == "ValueError: no such thing here"
    assert found[PREDICT, "gzkern"].verified == "answers within 0.0e+00 of float64's"
    assert found[STEP, "gzkern"].python_shares == [0.01, 0.01]
    assert found[STEP, "broken"].failed == "MemoryError: more than there is"
    assert found[PREDICT, "broken"].failed is None
    assert found[PREDICT, "wrong"].failed == "an answer is off by 1.0e-03"
    assert found[STEP, "wrong"].failed is None
    assert "its loss is not finite" in found[STEP, "astray"].failed
    assert found[STEP, "dead"].failed == "its process died; out of memory?"
    assert found[STEP, "dead"].median == float("inf")


def test_an_engine_that_never_answers_is_ended(monkeypatch):
    monkeypatch.setattr("benchmarks.harness.engines._PATIENCE", 0)
    process = Process(partial(Fake), Case(load_config("laptop"), "cpu", "fp32", 1))
    with pytest.raises(RuntimeError, match="did not answer within 0 s"):
        process.ask("sample", STEP)
    process.close()


def test_samples_on_a_gpu_are_as_many_passes_as_last():
    class Ticking(Fake):
        shortest = 1.0
        calls = 0

        def start(self, what):
            def call():
                self.calls += 1

            return call

        def clock(self, call, count):
            for _ in range(count):
                call()
            return 0.3 * count

    engine = Ticking(None)
    assert engine.sample(STEP) == pytest.approx(0.3)
    assert engine.calls == 5 + 5 + 4  # to warm up, to count, and ⌈1 / 0.3⌉


@pytest.mark.gxx
@pytest.mark.slow
def test_a_step_on_a_fake_gpu(tmp_path):
    """Ours is recorded and replayed, looked at launch by launch, and predicts what float64 does."""
    out, config = tmp_path / "rows.json", tmp_path / "small.toml"
    config.write_text(tomli_w.dumps(dataclasses.asdict(small_config())))
    small = ("--config", config, "--precision", "tf32", "--batch", "1", "--predict-batch", "1", "--repeats", "1")
    script = TESTS / "on_fake_gpu" / "run_train_step_on_fake_gpu.py"
    environment = {**os.environ, "PYTHONPATH": python_path()}
    done = subprocess.run(
        [sys.executable, script, *small, "--json", out], env=environment, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stdout + done.stderr
    document = json.loads(out.read_text())
    assert [(row["name"], row["engine"], row["failed"]) for row in document["rows"]] == [
        (what, engine, None) for what in (STEP, PREDICT) for engine in ("gzkern", "gzkern eager", "gzkern side stream")
    ]
    assert all(row["ms"] > 0 and row["peak_mib"] > 0 and row["floor_ms"] > 0 for row in document["rows"])
    assert "of float64's" in document["rows"][3]["verified"]
    assert document["gpu"] == "a fake H100"
    operations = [launch["operation"] for launch in document["launches"] if launch["name"] == STEP]
    assert operations[0] == "viewpoints"
    assert operations[-1] == "update"
    assert {"conv1", "dense1 backward", "mse"} <= set(operations)


def test_settings_begin_with_steps_and_bf16_only_predicts():
    found = train_step.settings(["tf32", "bf16"], [16, 256], [960, 16])
    assert [(s.precision, s.batch, s.passes) for s in found] == [
        ("tf32", 16, (STEP, PREDICT)), ("tf32", 256, (STEP,)), ("tf32", 960, (PREDICT,)),
        ("bf16", 960, (PREDICT,)), ("bf16", 16, (PREDICT,)),
    ]  # fmt: skip


def test_rows_name_the_fastest_rival_in_their_precision():
    bench = train_step.Bench(load_config("laptop"), False, "cpu", peaks_of({}), ["torch"], 1, 2)
    found = {
        (STEP, "gzkern"): Measured("fp32", [0.1, 0.1], python_shares=[0.01, 0.03, 0.02]),
        (STEP, "torch"): Measured("fp32", [0.3, 0.3]),
        (STEP, "torch channels-last"): Measured("fp32", [0.2, 0.2]),
        (STEP, "torch broken"): Measured("fp32", failed="it broke"),
        (STEP, "torch channels-last bf16"): Measured("bf16", [0.15, 0.15]),
    }
    ours, *theirs = train_step.rows_of(train_step.Setting("fp32", 16, (STEP,)), bench, found)
    assert (ours["baseline"], ours["ratio"], ours["python_share"]) == ("torch channels-last", 2.0, 0.02)
    assert (ours["ms"], ours["images_per_s"], ours["paper_run_hours"]) == (100.0, 160.0, None)
    assert theirs[2]["failed"] == "it broke"
    assert theirs[2]["ms"] is None
    assert all(other.keys() == ours.keys() for other in theirs)


def test_a_step_below_its_floor_is_not_believed():
    peaks = Peaks({"fp32": 60.0}, 3000.0, 0)
    bench = train_step.Bench(load_config("paper"), True, "cuda", peaks, [], 1, 2)
    for ms, believed in ((0.7, True), (0.5, False)):
        found = {(STEP, "gzkern"): Measured("fp32", [1e-3 * ms])}
        (ours,) = train_step.rows_of(train_step.Setting("fp32", 16, (STEP,)), bench, found)
        assert ours["bound_by"] == "arithmetic"
        assert ours["floor_ms"] == pytest.approx(37.53 / 60, abs=1e-3)
        assert ours["paper_run_minutes"] == pytest.approx(ms * 26.04, abs=0.1)
        assert (ours["failed"] is None) is believed
