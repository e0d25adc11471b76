"""How the benchmarks end: exit codes and single sentences, and what stays of an earlier measurement."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks import conv, ops, tiles
from benchmarks.harness import command, measuring
from benchmarks.harness.options import file, minutes, picture
from benchmarks.profile import kernel_report
from gzkern.errors import GzkernError, InputError

ABSENT = "device 'cuda': no NVIDIA driver is loaded"


@pytest.mark.parametrize(
    ("raised", "code", "sentence"),
    [
        (InputError("batch is odd"), 2, "batch is odd"),
        (GzkernError("the disk is full"), 1, "the disk is full"),
        (MemoryError("Unable to allocate 9 GiB"), 2, "Unable to allocate 9 GiB; take a smaller --batch"),
        (KeyboardInterrupt(), 130, "stopped"),
        (OSError(28, "No space left"), 1, "No space left"),
    ],
)
def test_one_sentence_in_place_of_a_traceback(raised, code, sentence, capsys):
    def main():
        raise raised

    with pytest.raises(SystemExit) as stop:
        command.call(main)
    assert stop.value.code == code
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"{command.module_name()}: ")
    assert sentence in line


@pytest.mark.parametrize("benchmark", [conv, ops, tiles], ids=lambda module: module.__name__)
def test_without_a_gpu_an_earlier_measurement_stands(benchmark, monkeypatch, tmp_path, capsys):
    def absent(*arguments):
        raise InputError(ABSENT)

    monkeypatch.setattr(measuring, "select", absent)
    path = tmp_path / "rows.json"
    small = ("--batch", "1", "--json", str(path))
    assert benchmark.main(list(small)) == 0
    rows = json.loads(path.read_text())["rows"]
    assert rows
    assert all(row["missing"] == ABSENT and row["ms"] is None for row in rows)
    assert f"{len(rows)} rows not measured: {ABSENT}\n" == capsys.readouterr().out
    path.write_text("measured elsewhere")
    assert benchmark.main(list(small)) == 0
    assert path.read_text() == "measured elsewhere"
    assert f"{path} stands as it is" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (file, "/proc/none/x.json"),
        (file, "/dev/full"),
        (file, "/"),
        (picture, "x.gif"),
        *((minutes, text) for text in ("0", "-1", "nan", "inf", "soon")),
    ],
)
def test_options_are_refused_before_anything_is_measured(kind, text):
    with pytest.raises(Exception, match=r"expected|written"):
        kind(text)


def test_a_folder_is_made(tmp_path):
    assert file(str(tmp_path / "new" / "rows.json"))
    assert (tmp_path / "new").is_dir()
    assert list((tmp_path / "new").iterdir()) == []


def test_a_report_is_refused_where_it_cannot_be_written(capsys):
    with pytest.raises(SystemExit) as stop:
        kernel_report.main(["conv2d_forward", "--json", "/proc/none/x.json"])
    assert stop.value.code == 2
    assert "cannot be written" in capsys.readouterr().err


@pytest.mark.gxx
@pytest.mark.slow
def test_ctrl_c_keeps_what_was_measured(tmp_path):
    path = tmp_path / "rows.json"
    arguments = ["--device", "emulated", "--precision", "fp32", "--json", str(path)]
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.conv", *arguments],
        cwd=Path(__file__).parents[2],
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    deadline = time.monotonic() + 60
    while not path.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, error = process.communicate(timeout=60)
    assert process.returncode == 130, error
    assert "Traceback" not in error
    assert "benchmarks.conv: stopped" in error
    assert "not timed: only verified" in out
    assert json.loads(path.read_text())["rows"]
