"""The benchmark's own machinery, without a baseline: it measures, prints and writes rows of the agreed shape."""

import json

import pytest

from benchmarks.harness.report import spread
from benchmarks.train_step import main


def test_train_step_writes_its_rows(tmp_path, capsys):
    out = tmp_path / "rows.json"
    assert main(["--config", "laptop", "--batch", "2", "--repeats", "2", "--threads", "1", "--json", str(out)]) == 0
    document = json.loads(out.read_text())
    assert [row["name"] for row in document["rows"]] == ["train_step", "predict"]
    for row in document["rows"]:
        assert {"name", "ms", "ratio", "baseline", "device", "precision", "verified"} <= set(row)
        assert row["ms"] > 0
        assert 50 < row["peak_mib"] < 2000
    assert {"date", "command", "commit", "processor", "packages"} <= set(document)
    assert "train_step" in capsys.readouterr().out


def test_spread():
    assert spread([0.003, 0.001, 0.002]) == {"ms": 2.0, "ms_p20": 1.0, "ms_p80": 3.0}


@pytest.mark.gxx
def test_the_emulator_s_costs_are_measured(tmp_path):
    from benchmarks import emulator

    out = tmp_path / "rows.json"
    assert emulator.main(["--json", str(out)]) == 0
    document = json.loads(out.read_text())
    assert document["gxx"]
    assert len(document["rows"]) == 5
    assert all(row["value"] > 0 for row in document["rows"])
