"""Training, evaluation and prediction on the devices that run the kernels, beside the CPU's."""

import shutil
import subprocess
import sys

import numpy as np
import pytest
from small_configs import SMALL, small_config

from gzkern.augment.geometry import crop_matrices
from gzkern.augment.parameters import identity
from gzkern.augment.warp import warp_reference
from gzkern.autograd.tape import Tape, Variable
from gzkern.device import KernelDevice, select
from gzkern.errors import InputError, OutOfMemory
from gzkern.models.network import build_network, empty_network
from gzkern.models.predictor import Predictor
from gzkern.prediction.arrays import predict_images
from gzkern.runtime.capture import ShapeOnlyBackend
from gzkern.runtime.emulator.backend import LIMITS

KERNEL_DEVICES = [
    pytest.param("emulated", marks=pytest.mark.gxx),
    pytest.param("cuda", marks=pytest.mark.gpu),
]
SHORT = ("train.examples=24", "train.batch=4", "train.validate_every=12", "train.chunk=8", "train.warmup_examples=8")


WIDE = ("model.filters=[8, 8, 8, 8]", "model.units=[16, 8]")  # as bfloat16 wants it


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
    from gzkern.training.loop import train

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
    again.weights_file.unlink()
    (again.checkpoint_folder / "000000006.safetensors").unlink()
    elsewhere = train(None, demo_pack, tmp_path / "run", device="cpu", resume=True, progress=False)
    assert elsewhere.environment["augment_on"] == "cpu"


@pytest.mark.parametrize("device", KERNEL_DEVICES)
def test_a_device_recentres_as_the_cpu_does(device, demo_pack, tmp_path):
    pytest.importorskip("numba", exc_type=ImportError)
    pytest.importorskip("sep")
    from gzkern.training.loop import train

    shutil.copytree(demo_pack, tmp_path / "pack")
    config = small_config(*SHORT, "data.recentre=gen2", "train.sampling=epochs")
    expected = train(config, tmp_path / "pack", tmp_path / "cpu", device="cpu", progress=False)
    plain = train(small_config(*SHORT), tmp_path / "pack", tmp_path / "plain", device="cpu", progress=False)
    assert abs(plain.metrics[0]["loss"] - expected.metrics[0]["loss"]) > 1e-4
    for augment_on in ("device", "cpu"):
        out = tmp_path / f"augmented-on-{augment_on}"
        run = train(config, tmp_path / "pack", out, device=device, augment_on=augment_on, workers=3, progress=False)
        np.testing.assert_allclose(
            [line["loss"] for line in run.metrics], [line["loss"] for line in expected.metrics], rtol=1e-4
        )
        np.testing.assert_allclose(run.metrics[-1]["valid_rmse"], expected.metrics[-1]["valid_rmse"], rtol=1e-4)


@pytest.mark.parametrize("device", KERNEL_DEVICES)
def test_the_command_line(device, demo_run, demo_pack, demo_folder, tmp_path, capsys):
    pytest.importorskip("numba", exc_type=ImportError)
    from gzkern.cli.main import main

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


@pytest.mark.parametrize("device", KERNEL_DEVICES)
@pytest.mark.parametrize(("precision", "most"), [("fp32", 2e-6), ("tf32", 2e-3), ("fp32x3", 2e-6), ("bf16", 3e-2)])
def test_answers_in_each_precision(device, precision, most):
    """Of crops, of images of two sizes that the device warps, and of a batch that is filled up; against float64."""
    rng = np.random.default_rng(2)
    images = [rng.integers(0, 256, (*size, 3), np.uint8) for size in ((230, 210), (207, 300), (230, 210))]
    config = small_config(*WIDE)
    exact, network = reference(config), empty_network(config, device, precision)
    network.load_state({name: array.astype(np.float32) for name, array in exact.state().items()})
    matrices = [crop_matrices(identity(1), image.shape[:2], 69, 3.0)[0] for image in images]
    crops = np.stack([warp_reference(*pair, 69) for pair in zip(images, matrices, strict=True)])
    wanted = exact.predict(crops)
    got = network.predict(crops)
    assert got.shape == wanted.shape
    assert got.flags.c_contiguous
    assert np.abs(got - wanted).max() <= most
    assert np.abs(network.predict(crops[:2]) - wanted[:2]).max() <= most  # by the program for three
    assert np.abs(predict_images(Predictor(network), config.data, images) - wanted).max() <= most


@pytest.mark.gxx
def test_training_and_prediction_without_numba(demo_pack, demo_folder, tmp_path):
    """As on a machine with a GPU and little else: images are warped by the device."""
    blocked = "import sys; sys.modules.update(dict.fromkeys(['numba', 'llvmlite', 'scipy'])); "
    command = blocked + "from gzkern.cli.main import main; sys.exit(main(sys.argv[1:]))"
    settings = [part for setting in (*SMALL, *SHORT) for part in ("--set", setting)]
    run, out = str(tmp_path / "run"), tmp_path / "answers.csv"
    image = str(min((demo_folder / "images_training_rev1").glob("*.jpg")))
    for arguments in (
        ["train", "--data", str(demo_pack), "--out", run, "--config", "laptop", *settings],
        ["evaluate", run, "--data", str(demo_pack)],
        ["predict", run, image, "--out", str(out)],
    ):
        done = subprocess.run(
            [sys.executable, "-c", command, *arguments, "--device", "emulated"], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
    assert len(out.read_text().splitlines()) == 2


@pytest.mark.gxx
def test_a_batch_that_does_not_fit_says_which_would(demo_pack, tmp_path, monkeypatch):
    from gzkern.runtime.emulator import backend
    from gzkern.training.loop import train

    def empty(shape, dtype=np.float32):
        raise OutOfMemory("an array of 9.9 GiB does not fit")

    monkeypatch.setattr(backend, "empty", empty)
    monkeypatch.setattr(backend, "free_bytes", lambda: 2**28)
    with pytest.raises(OutOfMemory, match=r"train\.batch = 4: an array of 9\.9 GiB .*; about \d{3} images fit"):
        train(small_config(*SHORT), demo_pack, tmp_path / "run", device="emulated", progress=False)


def test_bfloat16_says_which_layer_does_not_fit():
    device = KernelDevice("emulated", ShapeOnlyBackend(LIMITS))
    with pytest.raises(InputError, match="layer conv1 has 4 outputs, expected a multiple of 8"):
        empty_network(small_config(), device, "bf16")
    with pytest.raises(InputError, match=r"layer dense2 has 12 outputs, .*two a maxout unit"):
        empty_network(
            small_config(*WIDE[:1], "model.units=[16, 6]"), KernelDevice("emulated", ShapeOnlyBackend(LIMITS)), "bf16"
        )
