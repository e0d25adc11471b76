"""The predictor: the answers of its network, from any thread, for any batch, by the weights of the moment."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from small_configs import small_config

from gzkern.device import KernelDevice
from gzkern.errors import InputError
from gzkern.models.network import build_network, empty_network
from gzkern.models.predictor import Predictor
from gzkern.prediction.arrays import predict_images
from gzkern.runtime.capture import ShapeOnlyBackend
from gzkern.runtime.emulator.backend import LIMITS

WIDE = ("model.filters=[8, 8, 8, 8]", "model.units=[16, 12]")
DEVICES = ["cpu", pytest.param("emulated", marks=pytest.mark.gxx), pytest.param("cuda", marks=pytest.mark.gpu)]
KERNEL_DEVICES = DEVICES[1:]


def draw(count, seed=0):
    return np.random.default_rng(seed).random((count, 2, 69, 69, 3), np.float32)


@pytest.mark.parametrize("device", DEVICES)
def test_several_threads_get_each_the_answers_to_their_own_images(device):
    predictor = Predictor(build_network(small_config(*WIDE), device))
    sets = [draw(2, seed) for seed in range(4)]
    expected = [predictor.predict(crops) for crops in sets]
    with ThreadPoolExecutor(4) as pool:
        got = list(pool.map(lambda number: predictor.predict(sets[number % 4]), range(16)))
    for number, answers in enumerate(got):
        np.testing.assert_array_equal(answers, expected[number % 4])


@pytest.mark.parametrize("device", DEVICES)
def test_a_network_answers_several_threads(device):
    network = build_network(small_config(*WIDE), device)
    sets = [draw(2, seed) for seed in range(3)]
    expected = [network.predict(crops) for crops in sets]
    with ThreadPoolExecutor(3) as pool:
        got = list(pool.map(lambda number: network.predict(sets[number % 3]), range(9)))
    for number, answers in enumerate(got):
        np.testing.assert_array_equal(answers, expected[number % 3])


@pytest.mark.parametrize("device", KERNEL_DEVICES)
@pytest.mark.parametrize("count", [1, 3, 4, 11])
def test_a_captured_pass_gives_the_bits_of_the_eager_one(device, count):
    network = build_network(small_config(*WIDE), device)
    np.testing.assert_array_equal(Predictor(network).predict(draw(count)), network.predict(draw(count)))


@pytest.mark.parametrize("device", DEVICES)
def test_weights_that_are_loaded_later_are_used(device):
    precision = "fp32" if device == "cpu" else "bf16"  # a captured pass in bf16 holds rounded weights
    network = empty_network(small_config(*WIDE), device, precision)
    predictor, answers = Predictor(network), []
    for seed in (1, 2):
        network.load_state(build_network(small_config(*WIDE, f"train.seed={seed}"), "cpu").state())
        answers.append(predictor.predict(draw(8)))
        np.testing.assert_array_equal(answers[-1], network.predict(draw(8)))
    assert np.abs(answers[0] - answers[1]).max() > 1e-2


@pytest.mark.parametrize("device", DEVICES)
def test_arrays_that_replace_parameters_are_used(device):
    network = build_network(small_config(*WIDE), device)
    predictor = Predictor(network)
    before = predictor.predict(draw(2))
    name = "dense3.bias"
    network.parameters[name] = network.device.asarray(network.device.asnumpy(network.parameters[name]) + np.float32(1))
    after = predictor.predict(draw(2))
    assert np.abs(after - before).max() > 1e-3
    np.testing.assert_array_equal(after, network.predict(draw(2)))


@pytest.mark.gxx
def test_answers_are_the_callers_to_keep_and_programs_are_few():
    config = small_config(*WIDE)
    crops = draw(11)
    predictor, other = (Predictor(build_network(config, "emulated")) for _ in range(2))
    first = predictor.predict(crops[:1])
    copy = first.copy()
    predictor.predict(crops[1:2])
    np.testing.assert_array_equal(first, copy)
    predictor.predict(crops)
    assert predictor.predict(crops[:5]).tobytes() == other.predict(crops[:5]).tobytes()
    sizes = [(207 + 10 * number, 230) for number in range(6)]
    images = [np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8) for size in sizes]
    assert predict_images(predictor, config.data, images, batch=6).shape == (6, 37)
    assert len(predictor._passes) <= 4


def test_the_cpu_warps_no_images_and_devices_check_what_they_are_given():
    matrices = np.zeros((2, 2, 2, 3))
    images = np.zeros((2, 230, 230, 3), np.uint8)
    with pytest.raises(InputError, match="network: device 'cpu' warps no images; give crops to predict"):
        Predictor(build_network(small_config(), "cpu")).predict_images(images, matrices)
    predictor = Predictor(empty_network(small_config(), KernelDevice("emulated", ShapeOnlyBackend(LIMITS))))
    with pytest.raises(InputError, match="no parameters yet"):
        predictor.predict_images(images, matrices)
    with pytest.raises(InputError, match="matrices"):
        predictor.predict_images(images, matrices[0])
