"""The whole network: published counts, gradients by finite differences, float32 against float64, files."""

import dataclasses

import numpy as np
import pytest
from small_configs import small_config

from gzkern.autograd.tape import Tape, Variable
from gzkern.config import Config, ModelConfig, load_config
from gzkern.core.shapes import VIEWS
from gzkern.decision_trees.tree import load_tree
from gzkern.device import select
from gzkern.errors import InputError
from gzkern.models.network import Network, build_network
from gzkern.nn.initialisation import initial

CPU = select("cpu")


def network(model: ModelConfig) -> Network:
    return Network(model, Config().data, load_tree(), CPU)


@pytest.mark.parametrize(
    ("model", "count"),
    [
        (ModelConfig(), 42_377_125),
        (ModelConfig(filters=(32, 64, 128, 256)), 76_081_061),
        (ModelConfig(units=(2048,)), 33_984_421),
        (ModelConfig(filter_sizes=(8, 4, 3, 3), units=(2048,)), 33_963_685),
        (ModelConfig(filter_sizes=(8, 4, 3, 3)), 42_356_389),
        (ModelConfig(head="relu", units=(4096,)), 34_060_197),
        (ModelConfig(filters=(32, 64, 128, 192), head="relu", units=(4096,)), 50_912_165),
        (ModelConfig(view_dense=256, units=(2048,)), 17_469_861),
        (ModelConfig(view_dense=512, units=(2048,)), 34_509_733),
    ],
)
def test_parameter_counts_of_the_published_networks(model, count):
    assert network(model).parameter_count == count


def test_shapes_and_names_of_the_best_network():
    shapes = {p.name: p.shape for p in network(ModelConfig()).specifications()}
    assert shapes == {
        "conv1.weight": (3, 6, 6, 32), "conv1.bias": (32, 40, 40),
        "conv2.weight": (32, 5, 5, 64), "conv2.bias": (64, 16, 16),
        "conv3.weight": (64, 3, 3, 128), "conv3.bias": (128, 6, 6),
        "conv4.weight": (128, 3, 3, 128), "conv4.bias": (128, 4, 4),
        "dense1.weight": (8192, 4096), "dense1.bias": (4096,),
        "dense2.weight": (2048, 4096), "dense2.bias": (4096,),
        "dense3.weight": (2048, 37), "dense3.bias": (37,),
    }  # fmt: skip
    stds = {p.name: p.std for p in network(ModelConfig()).specifications() if p.std}
    assert list(stds.values()) == [0.01, 0.01, 0.01, 0.1, 0.001, 0.001, 0.01]
    levels = [p.constant for p in network(ModelConfig()).specifications() if p.std is None]
    assert levels == [0.1, 0.1, 0.1, 0.1, 0.01, 0.01, 0.1]


def test_published_multiply_adds():
    layers = network(ModelConfig()).layers()
    assert [layer.macs(VIEWS if layer.name.startswith("conv") else 1) for layer in layers] == [
        88_473_600, 209_715_200, 42_467_328, 37_748_736, 33_554_432, 8_388_608, 75_776,
    ]  # fmt: skip


def test_initial_values_follow_their_scheme():
    specification = network(ModelConfig()).specifications()[2]  # conv2.weight, fan-in 800
    published = initial(specification, "published", 3)
    fan_in = initial(specification, "fan_in", 3)
    assert published.std() == pytest.approx(0.01, rel=0.02)
    assert fan_in.std() == pytest.approx((2 / 800) ** 0.5, rel=0.02)
    assert not np.array_equal(published, initial(specification, "published", 4))
    np.testing.assert_array_equal(published, initial(specification, "published", 3))


@pytest.mark.parametrize("view_dense", [0, 3])
@pytest.mark.parametrize("head", ["maxout", "relu"])
@pytest.mark.parametrize("constrained", [True, False])
def test_gradients_by_finite_differences(view_dense, head, constrained):
    config = small_config(f"model.view_dense={view_dense}", f"model.head={head}")
    net = build_network(config, CPU)
    rng = np.random.default_rng(0)
    net.parameters = {name: a.astype(np.float64) for name, a in net.parameters.items()}
    net.parameters[f"{net.dense[-1].name}.bias"] = rng.uniform(0.2, 0.8, 37)
    crops, targets = rng.random((2, 2, 69, 69, 3)), rng.random((2, 37))
    how = {"constrained": constrained, "drop": 0.3, "seed_and_step": (5, 7)}
    _, gradients = net.runtime_gradients(crops, targets, **how)
    for name, gradient in gradients.items():
        direction = rng.standard_normal(gradient.shape)
        start, step, losses = net.parameters[name], 1e-6, []
        for sign in (1, -1):
            net.parameters[name] = start + sign * step * direction
            losses.append(net.runtime_gradients(crops, targets, **how)[0])
        net.parameters[name] = start
        slope = (losses[0] - losses[1]) / (2 * step)
        assert float((gradient * direction).sum()) == pytest.approx(slope, rel=1e-5, abs=1e-9), name


def test_float32_is_close_to_float64():
    net = build_network(small_config(), CPU)
    rng = np.random.default_rng(0)
    crops, targets = rng.random((3, 2, 69, 69, 3), np.float32), rng.random((3, 37), np.float32)
    answers, (loss, gradients) = net.predict(crops), net.runtime_gradients(crops, targets)
    net.parameters = {name: a.astype(np.float64) for name, a in net.parameters.items()}
    wide = net.predict(crops.astype(np.float64))
    wide_loss, wide_gradients = net.runtime_gradients(crops.astype(np.float64), targets.astype(np.float64))
    np.testing.assert_allclose(answers, wide, rtol=1e-5, atol=1e-6)
    assert loss == pytest.approx(wide_loss, rel=1e-5)
    for name, gradient in wide_gradients.items():
        error = np.abs(np.asarray(gradients[name]) - gradient).max()
        assert error <= 1e-4 * np.abs(gradient).max(), name


def test_turning_or_mirroring_the_crops_permutes_the_views():
    crops = np.random.default_rng(0).random((1, 2, 69, 69, 3), np.float32)

    def views(crops):
        patches = CPU.operations.viewpoints.forward(np.ascontiguousarray(crops), 45)
        return sorted(patches[..., view].tobytes() for view in range(16))

    assert len(set(views(crops))) == 16
    assert views(np.rot90(crops, axes=(2, 3))) == views(crops)
    assert views(crops[:, :, :, ::-1]) == views(crops)


def test_state_has_the_original_feature_order():
    net = build_network(small_config(), CPU)
    features = net.view_features
    rows = net.parameters["dense1.weight"]
    state = net.state()["dense1.weight"]
    for view in (0, 5, 15):
        for feature in (0, 1, features - 1):
            np.testing.assert_array_equal(state[view * features + feature], rows[feature * VIEWS + view])
    other = build_network(small_config("train.seed=9"), CPU)
    other.load_state({name: np.ascontiguousarray(a) for name, a in net.state().items()})
    for name, array in net.parameters.items():
        np.testing.assert_array_equal(other.parameters[name], array)


def test_merged_features_run_over_c_y_x_view():
    """A weight on one (view, c, y, x) of the file sees that feature of that view, and no other."""
    net = build_network(small_config("model.units=[1]", "model.head=relu"), CPU)
    tape, crops = Tape(CPU, recording=False), np.random.default_rng(0).random((2, 2, 69, 69, 3), np.float32)
    x = Variable(CPU.operations.viewpoints.forward(crops, 45))
    variables = {name: Variable(a) for name, a in net.parameters.items()}
    for convolution in net.convolutions:
        x = convolution(tape, x, variables)
    view, c, y, column = 11, 2, 1, 0
    state = {name: np.zeros_like(a) if name.startswith("dense1") else np.ascontiguousarray(a)
             for name, a in net.state().items()}  # fmt: skip
    state["dense1.weight"][view * net.view_features + c * 4 + y * 2 + column] = 1
    net.load_state(state)
    merged = x.value.reshape(-1, 2)
    got, _ = CPU.operations.dense.forward(
        merged, np.ascontiguousarray(net.parameters["dense1.weight"]), np.zeros(1, np.float32)
    )
    np.testing.assert_array_equal(got[0], x.value[c, y, column, view * 2 : view * 2 + 2])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("conv2.bias"), "lacks array 'conv2.bias'"),
        (lambda s: s.update(extra=np.zeros(1)), "has an unknown array 'extra'"),
        (lambda s: s.update({"dense2.bias": np.zeros(3, np.float32)}), "dense2.bias is float32 (3,)"),
        (
            lambda s: s["conv1.weight"].__setitem__((0, 0, 0, 0), np.nan),
            "conv1.weight holds a value that is not finite",
        ),
    ],
)
def test_weights_of_another_network_are_refused(change, message):
    net = build_network(small_config(), CPU)
    state = net.state()
    change(state)
    with pytest.raises(InputError) as caught:
        net.load_state(state)
    assert message in str(caught.value)


def test_crops_and_targets_of_any_dtype():
    net = build_network(small_config(), CPU)
    rng = np.random.default_rng(0)
    crops, targets = rng.integers(0, 256, (2, 2, 69, 69, 3), np.uint8), rng.random((2, 37))
    loss, gradients = net.loss_and_gradients(crops, targets)
    other, _ = net.loss_and_gradients(crops / 255.0, targets.astype(np.float32))
    assert loss == pytest.approx(other, rel=1e-5)
    assert all(g.dtype == np.float32 for g in gradients.values())
    np.testing.assert_allclose(net.predict(crops), net.predict(crops / 255.0), rtol=1e-4, atol=1e-6)
    assert net.predict(crops[:0]).shape == (0, 37)


@pytest.mark.slow
def test_the_published_network_in_float32_is_close_to_float64():
    net = build_network(Config(), CPU)
    net.initialise("fan_in", 0)  # the published start gives gradients that are nearly 0
    rng = np.random.default_rng(0)
    crops, targets = rng.random((2, 2, 69, 69, 3), np.float32), rng.random((2, 37), np.float32)
    loss, gradients = net.runtime_gradients(crops, targets)
    net.parameters = {name: a.astype(np.float64) for name, a in net.parameters.items()}
    wide_loss, wide_gradients = net.runtime_gradients(crops.astype(np.float64), targets.astype(np.float64))
    assert loss == pytest.approx(wide_loss, rel=1e-5)
    for name, gradient in wide_gradients.items():  # in norm: rounding decides near-ties of a pool
        assert np.linalg.norm(np.asarray(gradients[name]) - gradient) <= 1e-2 * np.linalg.norm(gradient), name


def test_loading_copies():
    net = build_network(small_config(), CPU)
    other = build_network(small_config("train.seed=9"), CPU)
    state = net.state()
    state["conv1.weight"] = np.asfortranarray(state["conv1.weight"])
    other.load_state(state)
    for name, array in other.parameters.items():
        assert array.flags.c_contiguous
        assert not np.shares_memory(array, net.parameters[name]), name


def test_large_seeds_are_told_apart():
    specification = network(ModelConfig()).specifications()[0]
    seeds = (0, 2**63, 2**63 + 1, 2**64 - 1)
    assert len({initial(specification, "fan_in", seed).tobytes() for seed in seeds}) == len(seeds)


def test_wrong_crops_are_named():
    net = build_network(small_config(), CPU)
    with pytest.raises(InputError, match="network: crops has shape"):
        net.predict(np.zeros((1, 2, 45, 45, 3), np.float32))
    with pytest.raises(InputError, match="loss: targets has shape"):
        net.loss_and_gradients(np.zeros((1, 2, 69, 69, 3), np.float32), np.zeros((1, 36), np.float32))


def test_a_filter_larger_than_its_input_is_refused():
    with pytest.raises(InputError, match="exceeds its input"):
        build_network(small_config("model.filter_sizes=[6, 5, 9, 3]"), CPU)


def test_the_paper_preset_is_the_defaults():
    assert load_config("paper") == Config()
    assert dataclasses.replace(Config()) == Config()


def test_repr_says_size_tree_and_device():
    assert repr(network(ModelConfig())) == (
        "<Network: 42,377,125 parameters in 4 convolutions and 3 dense layers; 37 answers of galaxy_zoo_2; fp32 on cpu>"
    )
