"""The evidence on precision: how the stand-in for tf32 rounds, whose decisions are followed, what is written."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from numerics import normal
from small_configs import small_config

from benchmarks.harness.engines import example_batch
from benchmarks.studies import precision, precision_curves
from benchmarks.studies.decisions import differing, following, witnessed
from benchmarks.studies.rounding import RoundingDevice, to_tf32
from gzkern.config import to_toml
from gzkern.cpu import conv2d, dense
from gzkern.device import select
from gzkern.errors import InputError
from gzkern.models.network import build_network

TF32_UNIT = 2.0**-11


def test_the_kernels_rounding():
    """To 10 bits of mantissa, ties away from zero; what is not finite stays."""
    x = np.array([1, 1 + 2**-11, -1 - 2**-11, 1 + 2**-11 - 2**-23, np.inf, -np.inf, np.nan, 0, -0.0, 2.0**127], "f")
    expected = np.array([1, 1 + 2**-10, -1 - 2**-10, 1, np.inf, -np.inf, np.nan, 0, -0.0, 2.0**127], "f")
    np.testing.assert_array_equal(to_tf32(x), expected)
    y = normal(3, 1000)
    assert np.all(np.abs(to_tf32(y) - y) <= TF32_UNIT * np.abs(y))
    np.testing.assert_array_equal(to_tf32(y), to_tf32(to_tf32(y)))


@pytest.mark.gxx
def test_the_emulated_kernels_round_alike():
    from gzkern.cuda.conv2d import operation as kernels

    x, weight, bias = normal(16, 12, 12, 16), normal(16, 3, 3, 32), np.zeros((32, 10, 10), np.float32)
    expected, _ = RoundingDevice().operations.conv2d.forward(x, weight, bias, activate=False, pool=False)
    y, _ = kernels.convolve(x, weight, bias, "plain", "mma", "tf32")
    unrounded, _ = conv2d.forward(x, weight, bias, activate=False, pool=False)
    assert np.abs(y - expected).max() < 1e-4 < np.abs(unrounded - expected).max()


@pytest.mark.parametrize("pool", [True, False])
def test_a_convolution_of_rounded_operands(pool):
    x, weight, bias = normal(3, 11, 9, 8), normal(3, 4, 2, 5), normal(5, 8, 8)
    y, code = RoundingDevice().operations.conv2d.forward(x, weight, bias, pool=pool)
    operands = [to_tf32(array).astype(np.float64) for array in (x, weight)]
    exact, exact_code = conv2d.forward(*operands, bias.astype(np.float64), pool=pool)
    np.testing.assert_allclose(y, exact, atol=1e-4)
    if pool:
        np.testing.assert_array_equal(code, exact_code)
    gradient = normal(*y.shape)
    got = RoundingDevice().operations.conv2d.backward(x, weight, y, code, gradient)
    exact = conv2d.backward(*operands, exact, exact_code, to_tf32(gradient).astype(np.float64))
    for array, expected in zip(got[:2], exact[:2], strict=True):
        np.testing.assert_allclose(array, expected, atol=1e-3)
    np.testing.assert_array_equal(got[2], conv2d.backward(x, weight, y, code, gradient)[2])


@pytest.mark.parametrize("activation", ["linear", "relu", "maxout"])
def test_a_dense_layer_of_rounded_operands(activation):
    x, weight, bias = normal(33, 7), normal(33, 10), normal(10)
    y, code = RoundingDevice().operations.dense.forward(x, weight, bias, activation=activation)
    operands = [to_tf32(array).astype(np.float64) for array in (x, weight)]
    exact, _ = dense.forward(*operands, bias.astype(np.float64), activation=activation)
    np.testing.assert_allclose(y, exact, atol=1e-5)
    gradient = normal(*y.shape)
    got = RoundingDevice().operations.dense.backward(x, weight, y, code, gradient, activation=activation)
    exact = dense.backward(
        *operands, y.astype(np.float64), code, to_tf32(gradient).astype(np.float64), activation=activation
    )
    for array, expected in zip(got[:2], exact[:2], strict=True):
        np.testing.assert_allclose(np.asarray(array), expected, atol=1e-4)
    np.testing.assert_array_equal(got[2], dense.backward(x, weight, y, code, gradient, activation=activation)[2])


def test_float64_that_follows_decisions_is_near_a_step_that_decided_otherwise():
    """Rounding that moves gradients by decisions is left with its own error, a few units, once they are followed."""
    config = small_config("train.batch=4")
    crops, targets = example_batch(config)
    network = build_network(config, RoundingDevice())
    rows = {row["array"]: row for row in precision.errors(network, config, crops, targets)}
    assert rows["decisions"]["differ"] > 0
    for name in network.parameters:
        assert 0 < rows[name]["norm_same_decisions"] < 20 * TF32_UNIT
        assert rows[name]["norm_same_decisions"] <= 1.01 * rows[name]["norm"] < rows[name]["norm_other_mask"]


def test_a_follower_of_its_own_decisions_changes_nothing():
    config = small_config("train.batch=2")
    crops, targets = example_batch(config)
    network = build_network(config, "cpu")
    reference = precision.in_float64(network, config)
    reference.device, decisions = witnessed(select("cpu"))
    loss, gradients = reference.loss_and_gradients(crops, targets, drop=0.5)
    reference.device = following(decisions)
    again, same = reference.loss_and_gradients(crops, targets, drop=0.5)
    assert loss == again
    for name, gradient in gradients.items():
        np.testing.assert_array_equal(gradient, same[name])
    assert differing(decisions, decisions)[0] == 0


def test_a_decision_of_each_kind_is_counted():
    code, y = np.array([1, 2], np.uint8), np.array([1.0, -1.0])
    decisions = [(y, code), (y, None)]
    others = [(y, np.array([1, 3], np.uint8)), (np.array([2.0, np.nan]), None)]
    assert differing(decisions, others) == (1, 4)


@pytest.fixture
def small_file(tmp_path):
    path = tmp_path / "small.toml"
    path.write_text(to_toml(small_config()))
    return str(path)


def test_errors_are_written(tmp_path, capsys, small_file, demo_pack):
    out = tmp_path / "rows.json"
    arguments = ["--config", small_file, "--batch", "2", "--data", str(demo_pack), "--json", str(out)]
    assert precision.main(arguments) == 0
    document = json.loads(out.read_text())
    assert {row["precision"] for row in document["rows"]} == {"fp32", "tf32"}
    arrays = {row["array"] for row in document["rows"]}
    assert {"answers", "loss", "conv1.weight", "dense3.bias", "decisions"} <= arrays
    errors = {p: [r["norm"] for r in document["rows"] if r["precision"] == p] for p in ("fp32", "tf32")}
    assert all(one <= other for one, other in zip(errors["fp32"], errors["tf32"], strict=True))
    assert "not tensor cores" in document["tf32"]
    assert "norm_same_decisions" in capsys.readouterr().out


def test_errors_where_a_run_has_come_to(demo_run, capsys):
    assert precision.main(["--run", str(demo_run.path), "--batch", "2", "--precision", "fp32"]) == 0
    assert "fp32       dense3.bias" in capsys.readouterr().out


def test_images_without_enough_of_them_are_refused(demo_pack):
    with pytest.raises(InputError, match="at least 5000 images"):
        precision.main(["--batch", "5000", "--data", str(demo_pack)])


def test_curves_are_trained_once_and_read_again(tmp_path, demo_pack, small_file):
    out = tmp_path / "rows.json"
    arguments = ["--device", "cpu", "--config", small_file, "--data", str(demo_pack), "--out", str(tmp_path / "runs")]
    arguments += ["--set", "model.units=[6]", "--examples", "160", "--threads", "1", "--json", str(out)]
    assert precision_curves.main([*arguments, "--precision", "tf32"]) == 0
    first = json.loads(out.read_text())["rows"]
    assert precision_curves.main(arguments) == 0
    document = json.loads(out.read_text())
    assert [row for row in document["rows"] if row["precision"] == "tf32"] == first
    assert [row["examples"] for row in first][-1] == 160
    fp32 = [row["valid_rmse"] for row in document["rows"] if row["precision"] == "fp32"]
    assert fp32 != [row["valid_rmse"] for row in first]
    assert "not tensor cores" in document["tf32"]


def test_a_row_has_the_training_since_the_last_validation():
    lines = [(16, 4.0, None), (32, 2.0, 0.3), (48, 16.0, 0.2)]
    run = SimpleNamespace(metrics=[dict(zip(("examples", "loss", "valid_rmse"), line, strict=True)) for line in lines])
    rows = list(precision_curves.curve(run, "tf32", 7))
    assert [(row["examples"], row["train_rmse"], row["valid_rmse"]) for row in rows] == [
        (32, 3**0.5, 0.3),
        (48, 4, 0.2),
    ]


def test_curves_are_drawn(tmp_path):
    pytest.importorskip("matplotlib", exc_type=ImportError)
    row = {"precision": "tf32", "seed": 0, "examples": 16, "train_rmse": 0.2, "valid_rmse": 0.3}
    precision_curves.draw([row, {**row, "examples": 32}], "title", str(tmp_path / "curves.png"))
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("seeds", ["x", "1,", "-1"])
def test_seeds_are_numbers(seeds, capsys):
    with pytest.raises(SystemExit):
        precision_curves.main(["--data", "x", "--out", "y", "--seeds", seeds])
    assert "expected whole numbers" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize(
    "device", [pytest.param("emulated", marks=pytest.mark.gxx), pytest.param("cuda", marks=pytest.mark.gpu)]
)
@pytest.mark.parametrize(("name", "bound"), [("fp32", 1e-5), ("tf32", 20 * TF32_UNIT), ("fp32x3", 1e-5)])
def test_the_kernels_err_by_no_more_than_their_precision(device, name, bound):
    """Layers of 16 filters, which the kernels of tensor cores take; where decisions are followed."""
    config = small_config("model.filters=[16, 16, 16, 16]", "model.units=[16]", "train.batch=2")
    network = build_network(precision.in_precision(config, select(device), name), device)
    rows = {row["array"]: row for row in precision.errors(network, config, *example_batch(config))}
    assert all(rows[array]["norm_same_decisions"] < bound for array in network.parameters)
    assert (rows["conv1.weight"]["norm_same_decisions"] > 1e-5) == (name == "tf32")
