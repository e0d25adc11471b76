"""Weights and checkpoints on disk: names, orders, damage."""

import numpy as np
import pytest

from gzkern.errors import InputError
from gzkern.runs import checkpoint

WEIGHTS = {"conv1.weight": np.arange(6, dtype=np.float32).reshape(2, 3), "dense1.bias": np.ones(4, np.float32)}
VELOCITY = {name: -array for name, array in WEIGHTS.items()}


def test_round_trip_of_views_too(tmp_path):
    turned = {**WEIGHTS, "conv1.weight": WEIGHTS["conv1.weight"].T}
    path = checkpoint.save(tmp_path / "checkpoints", 1234, turned, VELOCITY, kept=3)
    assert path.name == "000001234.safetensors"
    step, weights, velocity = checkpoint.load(path)
    assert step == 1234
    np.testing.assert_array_equal(weights["conv1.weight"], WEIGHTS["conv1.weight"].T)
    np.testing.assert_array_equal(velocity["dense1.bias"], VELOCITY["dense1.bias"])


def test_only_the_last_are_kept(tmp_path):
    for step in (5, 100, 20, 3000):
        checkpoint.save(tmp_path, step, WEIGHTS, VELOCITY, kept=2)
    (tmp_path / "mine.safetensors").write_bytes(b"")
    assert [int(p.stem) for p in checkpoint.list_checkpoints(tmp_path)] == [100, 3000]
    assert [p.name for p in tmp_path.iterdir() if "partial" in p.name] == []


@pytest.mark.parametrize("keep", [0, 7, 0.5, 0.99])
def test_a_file_cut_short_is_refused(tmp_path, keep):
    path = checkpoint.save(tmp_path, 1, WEIGHTS, VELOCITY, kept=1)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(keep * len(whole)) if keep < 1 else keep])
    with pytest.raises(InputError, match="not a readable safetensors file"):
        checkpoint.load(path)


def test_a_weights_file_is_not_a_checkpoint(tmp_path):
    checkpoint.save_weights(tmp_path / "weights.safetensors", WEIGHTS, {})
    with pytest.raises(InputError, match="not a checkpoint"):
        checkpoint.load(tmp_path / "weights.safetensors")
    with pytest.raises(InputError, match="not a readable"):
        checkpoint.load_weights(tmp_path / "none.safetensors")
