"""The run directory as an object; ``tests/training`` and ``tests/cli`` train and read whole ones."""

import json

import pytest

from gzkern.config import load_config, to_toml
from gzkern.runs.run import Run


@pytest.mark.parametrize(
    ("files", "state"),
    [
        ((), "no run there"),
        (("config.toml",), "not trained yet"),
        (("config.toml", "metrics.jsonl"), "in training, 1,600 examples, validation RMSE 0.1500"),
        (("config.toml", "metrics.jsonl", "weights.safetensors"), "trained, 1,600 examples, validation RMSE 0.1500"),
    ],
)
def test_repr_says_how_far_the_training_is(tmp_path, files, state):
    lines = [{"examples": 800, "valid_rmse": 0.15}, {"examples": 1600, "valid_rmse": None}]
    contents = {"config.toml": to_toml(load_config("laptop")), "metrics.jsonl": "\n".join(map(json.dumps, lines))}
    for name in files:
        (tmp_path / name).write_text(contents.get(name, ""))
    assert repr(Run(tmp_path)) == f"<Run {str(tmp_path)!r}: {state}>"
