"""Training, evaluation and prediction on the devices that run the kernels, beside the CPU's."""

import numpy as np
import pytest
from small import small_config

from gzkern.autograd.tape import Tape, Variable
from gzkern.device import select
from gzkern.models.network import build_network

KERNEL_DEVICES = [
    pytest.param("emulated", marks=pytest.mark.gxx),
    pytest.param("cuda", marks=pytest.mark.gpu),
]
SHORT = ("train.examples=24", "train.batch=4", "train.validate_every=12", "train.chunk=8", "train.warmup_examples=8")


def reference(config):
    """The same network in float64, which takes the oracles and so needs no Numba."""
    network = build_network(config, "cpu")
    network.parameters.update({name: array.astype(np.float64) for name, array in network.parameters.items()})
    return network


def runtime_state(run):
    return {name: array.astype(np.float64) for name, array in run.network.state().items()}


@pytest.mark.parametrize("device", KERNEL_DEVICES)
def test_a_run_is_the_cpus_within_rounding_and_resumes_bit_for_bit(device, demo_pack, tmp_path):
    pytest.importorskip("numba", exc_type=ImportError)  # crops come from the CPU
    from gzkern.training import train

    config = small_config(*SHORT)
    expected = runtime_state(train(config, demo_pack, tmp_path / "cpu", device="cpu", progress=False))
    run = train(config, demo_pack, tmp_path / "run", device=device, progress=False)
    for name, array in runtime_state(run).items():  # where a pool's positions nearly tie, rounding moves a gradient
        norm = np.linalg.norm(expected[name])
        assert np.linalg.norm(array - expected[name]) <= 2e-3 * norm, name
    final = run.weights_file.read_bytes()
    run.weights_file.unlink()
    (run.checkpoint_folder / "000000006.safetensors").unlink()
    again = train(None, demo_pack, tmp_path / "run", device=device, resume=True, progress=False)
    assert again.weights_file.read_bytes() == final


@pytest.mark.parametrize("device", KERNEL_DEVICES)
def test_the_command_line(device, demo_run, demo_pack, demo_folder, tmp_path, capsys):
    pytest.importorskip("numba", exc_type=ImportError)
    from gzkern.cli import main

    assert main(["evaluate", str(demo_run.path), "--data", str(demo_pack), "--device", device]) == 0
    here = capsys.readouterr().out.splitlines()[0]
    assert main(["evaluate", str(demo_run.path), "--data", str(demo_pack), "--device", "cpu"]) == 0
    assert here == capsys.readouterr().out.splitlines()[0]
    out, images = tmp_path / "answers.csv", sorted((demo_folder / "images_training_rev1").glob("*.jpg"))[:3]
    assert main(["predict", str(demo_run.path), *map(str, images), "--out", str(out), "--device", device]) == 0
    assert len(out.read_text().splitlines()) == 4


@pytest.mark.gxx
def test_the_emulated_device_says_that_it_is_slow(capsys):
    from gzkern import device

    device._device.cache_clear()
    select("emulated")
    assert "emulated" in capsys.readouterr().err


@pytest.mark.parametrize("device", KERNEL_DEVICES)
@pytest.mark.parametrize("head", ["maxout", "relu"])
def test_gradients_of_a_whole_network(device, head):
    """Every gradient in the files' order, uint8 crops, with and without a view_dense layer, against float64."""
    rng = np.random.default_rng(0)
    crops, targets = rng.integers(0, 256, (2, 2, 69, 69, 3), np.uint8), rng.random((2, 37), np.float32)
    config = small_config(f"model.head={head}", f"model.view_dense={20 if head == 'relu' else 0}")
    network = build_network(config, device)
    other_loss, other_gradients = network.loss_and_gradients(crops, targets, drop=0.5, seed_and_step=(3, 7))
    loss, gradients = reference(config).loss_and_gradients(crops / 255, targets, drop=0.5, seed_and_step=(3, 7))
    assert other_loss == pytest.approx(loss, rel=1e-5)
    assert other_gradients.keys() == gradients.keys()
    for name, gradient in gradients.items():
        norm = np.linalg.norm(gradient)
        assert norm > 0
        assert np.linalg.norm(other_gradients[name] - gradient) <= 1e-4 * norm, name


@pytest.mark.parametrize("device", KERNEL_DEVICES)
def test_saliency_the_gradient_of_the_crops(device):
    """What training leaves out, conv1's backward-data and the viewpoints' backward, are there when asked for."""
    crops = np.random.default_rng(0).random((1, 2, 69, 69, 3), np.float32)
    gradients = []
    for network in (reference(small_config()), build_network(small_config(), device)):
        dtype = network.parameters["conv1.weight"].dtype
        tape, pixels = Tape(network.device), Variable(network.device.asarray(crops.astype(dtype)), True)
        variables = {key: Variable(array) for key, array in network.parameters.items()}
        answers = network.answers(tape, network.patches(tape, pixels), variables)
        tape.backward(answers, network.device.asarray(np.ones(answers.value.shape, dtype)))
        gradients.append(network.device.asnumpy(pixels.gradient))
    assert np.abs(gradients[0]).max() > 0
    assert np.linalg.norm(gradients[1] - gradients[0]) <= 1e-4 * np.linalg.norm(gradients[0])
