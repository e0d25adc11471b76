"""The comparison of tiles: what is listed, what is checked, what is refused."""

import json
from dataclasses import replace

import numpy as np
import pytest

from benchmarks import tiles
from gzkern.cuda.conv2d.choice import ALGORITHMS

pytestmark = pytest.mark.gxx
ARGUMENTS = ("--device", "emulated", "--layer", "conv2", "--pass", "forward", "--precision", "fp32")


class Stopwatch:
    """Times that differ by what is timed, and say nothing else."""

    def time(self, call, count, cold, ahead):
        return count * 1e-3 * (1 + id(call) % 97), 0.0


def test_tiles_are_verified_where_nothing_can_be_timed(tmp_path, capsys):
    path = tmp_path / "tiles.json"
    assert tiles.main([*ARGUMENTS, "--top", "2", "--json", str(path)]) == 0
    rows = json.loads(path.read_text())["rows"]
    assert [(row["version"], row["rank"], row["chosen"]) for row in rows] == [
        ("vectorised", None, None),
        ("specialised", 1, "yes"),
        ("specialised", 2, None),
    ]
    assert all(0 < row["error_over_bound"] <= 1 and row["missing"] == "not timed: only verified" for row in rows)
    assert "Tile(R=5, S=5" in capsys.readouterr().out


def test_the_fastest_comes_first(monkeypatch, tmp_path):
    new_harness = tiles.new_harness
    monkeypatch.setattr(tiles, "new_harness", lambda *options: _timed(new_harness(*options)))
    path = tmp_path / "tiles.json"
    assert tiles.main([*ARGUMENTS, "--top", "2", "--samples", "3", "--json", str(path)]) == 0
    measured = [row["ms"] for row in json.loads(path.read_text())["rows"]]
    assert measured == sorted(measured)
    assert all(ms > 0 for ms in measured)


def _timed(here):
    here.stopwatch = Stopwatch()
    return here


def test_a_wrong_result_is_not_timed(monkeypatch, capsys):
    algorithm = ALGORITHMS["forward"]["specialised"]

    def wrong(*arguments):
        y, code = algorithm.run(*arguments)
        return y + np.float32(1), code

    monkeypatch.setitem(ALGORITHMS["forward"], "specialised", replace(algorithm, run=wrong))
    assert tiles.main([*ARGUMENTS, "--top", "1"]) == 1
    assert "times what float64 allows" in capsys.readouterr().err


def test_without_a_gpu_the_row_says_so(capsys):
    if tiles.new_harness("cuda", 1).device is not None:
        pytest.skip("there is a GPU")
    assert tiles.main(["--layer", "conv2", "--pass", "forward", "--precision", "fp32", "--batch", "1"]) == 0
    assert "NVIDIA driver" in capsys.readouterr().out


@pytest.mark.parametrize(
    "option", [("--layer", "conv9"), ("--pass", "sideways"), ("--top", "0"), ("--device", "cpu"), ("--json", "/tmp")]
)
def test_bad_options(option, capsys):
    with pytest.raises(SystemExit) as stop:
        tiles.main(list(option))
    assert stop.value.code == 2
    assert option[0] in capsys.readouterr().err
