"""A training step and a prediction on each fake GPU: launches are within its limits, bits are the emulated device's.

The emulated device gets the same limits, so that both take the same kernels and tiles.
"""

import numpy as np
import pytest
from example_steps import ExampleSteps
from fake_cupy import kernels
from fake_cupy.gpus import GPU
from small_configs import small_config

from gzkern.config import PRECISIONS
from gzkern.models.network import build_network, empty_network
from gzkern.runtime.backend import Limits
from gzkern.runtime.emulator import backend as emulated
from gzkern.training.step import CapturedSteps

WIDE = ("model.filters=[8, 8, 8, 8]", "model.units=[16, 8]")  # as bfloat16 wants it


@pytest.fixture(autouse=True)
def the_same_limits(monkeypatch):
    limits = Limits(GPU.capability, GPU.multiprocessors, GPU.shared_bytes)
    monkeypatch.setattr(emulated, "limits", limits)


@pytest.fixture(autouse=True)
def every_function_is_prepared():
    yield
    for function in kernels.functions.values():
        dynamic = function.attributes.get(kernels.MOST_DYNAMIC, 0)
        assert function.attributes[kernels.STATIC] + dynamic <= GPU.shared_bytes
        assert function.attributes.get(kernels.CARVEOUT, 100) == 100


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_step(precision):
    states = []
    for name in ("emulated", "cuda"):
        run = ExampleSteps(name, *WIDE, f"train.precision={precision}")
        steps = CapturedSteps(run.network, run.optimiser, run.config.train, run.feed)
        for step in range(4):  # two of the warm-up
            steps.take(step)
        states.append(run.state())
        steps.close()
    for name, array in states[0].items():
        assert np.isfinite(array).all(), name
        assert array.tobytes() == states[1][name].tobytes(), name


@pytest.mark.parametrize("precision", [*PRECISIONS, "bf16"])
def test_a_prediction(precision):
    crops = np.random.default_rng(1).random((3, 2, 69, 69, 3), np.float32)
    config, answers = small_config(*WIDE), []
    for name in ("emulated", "cuda"):
        network = empty_network(config, name, precision)
        network.load_state(build_network(config, "cpu").state())
        answers.append(network.predict(crops))
    assert np.isfinite(answers[0]).all()
    assert answers[0].tobytes() == answers[1].tobytes()
