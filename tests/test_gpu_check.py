"""The check on a GPU, its machinery: in order, cut off, gone on with, written down after every item."""

import json
import sys

import pytest

from benchmarks import gpu_check
from benchmarks.gpu_check import Item


@pytest.fixture
def run(monkeypatch, tmp_path):
    """Run the check over some items as if there were a GPU; the items' results, and the exit code."""
    monkeypatch.setattr(gpu_check, "missing", lambda: None)

    def run(items, minutes=1.0):
        monkeypatch.setattr(gpu_check, "items", lambda out, minutes: iter(items))
        code = gpu_check.main(["--out", str(tmp_path / "check"), "--minutes", str(minutes)])
        document = json.loads((tmp_path / "check" / "gpu_check.json").read_text())
        return {item["name"]: item for item in document["items"]}, code

    return run


def python(name, code, needs=None):
    return Item(name, (sys.executable, "-c", code), needs)


def test_every_item_is_run_and_what_it_said_is_kept(run):
    results, code = run(
        [
            python("good", "print('all right')"),
            python("bad", "print('x' * 5000 + 'wrong'); raise SystemExit(3)"),
            python("elsewhere", "", needs="a tool is missing"),
        ]
    )
    assert code == 1
    assert {name: item["status"] for name, item in results.items()} == {
        "good": "passed", "bad": "failed", "elsewhere": "left out",
    }  # fmt: skip
    assert results["good"]["output"] == "all right\n"
    assert results["bad"]["output"].endswith("wrong\n")
    assert len(results["bad"]["output"]) <= 4000
    assert results["elsewhere"]["reason"] == "a tool is missing"


def test_a_check_that_is_cut_off_goes_on_with_what_is_left(run, tmp_path):
    count = tmp_path / "count"
    counted = f"open({str(count)!r}, 'a').write('x')"
    slow = python("slow", "import time; print('begun', flush=True); time.sleep(60)")
    results, code = run([python("first", counted), slow, python("last", counted)], minutes=0.02)
    assert code == 1
    assert [item["status"] for item in results.values()] == ["passed", "cut off", "no time left"]
    assert results["slow"]["output"] == "begun\n"
    results, code = run([python("first", counted), python("slow", "pass"), python("last", counted)])
    assert code == 0
    assert [item["status"] for item in results.values()] == ["passed"] * 3
    assert count.read_text() == "xx"  # the first was not run again


def test_without_a_gpu_it_says_so(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(gpu_check, "missing", lambda: "no GPU today")
    assert gpu_check.main(["--out", str(tmp_path / "check")]) == 2
    assert "no GPU today" in capsys.readouterr().err
    assert not (tmp_path / "check").exists()


@pytest.mark.parametrize("installed", [True, False])
def test_what_a_bare_machine_lacks_is_left_out(tmp_path, monkeypatch, installed):
    monkeypatch.setattr(gpu_check.importlib.util, "find_spec", lambda name: object() if installed else None)
    items = {item.name: item for item in gpu_check.items(tmp_path, minutes=30)}
    assert (str(tmp_path / "conv_cuda.png") in items["conv"].command) is installed
    assert items["precision"].needs == (None if installed else "not installed: safetensors, tqdm")


def test_the_items_begin_with_the_kernels_and_end_with_the_sanitizers(tmp_path):
    items = {item.name: item for item in gpu_check.items(tmp_path, minutes=30)}
    names = list(items)
    assert names[:6] == ["info", "warmup", "kernels", "network", "train_step_alone", "train_step"]
    assert names[6:10] == ["precision", "conv", "ops", "tiles"]
    assert names[10:] == [f"sanitizer_{tool}" for tool in ("memcheck", "racecheck", "initcheck", "synccheck")]
    assert items["train_step"].command[-6:] == (
        *("--baseline", "torch", "--minutes", "7.5"),
        *("--json", str(tmp_path / "train_step_cuda.json")),
    )
    assert items["train_step_alone"].command[2] == "benchmarks.train_step"
    assert "--baseline" not in items["train_step_alone"].command
    assert items["ops"].command[-4:-2] == ("--minutes", "3")
    for item in items.values():
        for argument in item.command:
            if argument.startswith("tests/"):
                assert (gpu_check.ROOT / argument).exists(), argument
