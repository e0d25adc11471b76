"""Recorded steps: their launches, where their memory lies, and that a replay gives the bits of the eager step."""

from functools import partial

import numpy as np
import pytest
from example_steps import ExampleSteps

import gzkern.training.step
from gzkern.cuda import maxpool2d, relu
from gzkern.errors import GzkernError, InputError
from gzkern.runtime.capture import Block, Buffer, CapturingBackend, Launch, Program, arena_bytes, lay_out
from gzkern.runtime.emulator import backend
from gzkern.runtime.kernel import Geometry, Kernel
from gzkern.training.step import CapturedSteps, capture_step

KERNEL_DEVICES = [
    pytest.param("emulated", marks=pytest.mark.gxx),
    pytest.param("cuda", marks=pytest.mark.gpu),
]


@pytest.mark.parametrize("device", KERNEL_DEVICES)
@pytest.mark.parametrize(
    ("side_stream", "precision"),
    [(False, "fp32"), (False, "tf32"), (True, "fp32"), pytest.param(True, "tf32", marks=pytest.mark.slow)],
)
def test_a_replayed_step_has_the_bits_of_the_eager_one(device, precision, side_stream, monkeypatch):
    monkeypatch.setattr(gzkern.training.step, "capture_step", partial(capture_step, side_stream=side_stream))
    eager, recorded = (ExampleSteps(device, f"train.precision={precision}") for _ in range(2))
    steps = CapturedSteps(recorded.network, recorded.optimiser, recorded.config.train, recorded.feed)
    for step in range(6):
        eager.take_eagerly(step, side_stream)
        steps.take(step)
        states = eager.state(), recorded.state()
        for name, array in states[0].items():
            assert np.isfinite(array).all(), name
            assert array.tobytes() == states[1][name].tobytes(), f"{name} after step {step}"
    assert states[0]["step"] == 6


@pytest.mark.gxx
@pytest.mark.parametrize("side_stream", [False, True])
def test_a_step_reads_nothing_that_it_did_not_write(side_stream):
    """The arena holds NaN before every replay; a launch that came too late, or memory shared too early, would show."""
    plain, poisoned = (ExampleSteps("emulated") for _ in range(2))
    programs = [
        Program(capture_step(r.network, r.optimiser, r.config.train, r.feed, True, side_stream))
        for r in (plain, poisoned)
    ]
    for step in range(2):
        for run, program in zip((plain, poisoned), programs, strict=True):
            run.optimiser.set_rate(0.01)
            run.feed.provide(step)
            if run is poisoned:
                program._arena.fill(0xFF)
            program.play()
    states = plain.state(), poisoned.state()
    assert all(array.tobytes() == states[1][name].tobytes() for name, array in states[0].items())
    assert np.isfinite(states[1]["total"]).all()


@pytest.mark.gxx
def test_launches_on_the_side_stream_may_come_late():
    """As early as it may, in the order of the list, and as late: what shares memory with it too soon would show."""
    early, late = (ExampleSteps("emulated") for _ in range(2))
    programs = [
        Program(capture_step(r.network, r.optimiser, r.config.train, r.feed, True, side_stream=True))
        for r in (early, late)
    ]
    calls = list(zip(programs[1].launches, programs[1].calls, strict=True))
    delayed = [call for launch, call in calls if not launch.side_stream] + [
        call for launch, call in calls if launch.side_stream
    ]
    assert delayed != programs[1].calls
    for step in range(3):
        for run in (early, late):
            run.optimiser.set_rate(0.01)
            run.feed.provide(step)
        programs[0].play()
        for call in delayed:
            call()
    states = early.state(), late.state()
    assert all(array.tobytes() == states[1][name].tobytes() for name, array in states[0].items())


@pytest.mark.parametrize("device", KERNEL_DEVICES)
def test_a_step_that_is_not_finite_changes_nothing_from_then_on(device):
    run = ExampleSteps(device)
    before, bias = run.network.state(), run.network.parameters["dense3.bias"]
    run.network.device.write(bias, np.full(bias.shape, np.nan, np.float32))
    steps = CapturedSteps(run.network, run.optimiser, run.config.train, run.feed)
    run.optimiser.start(4)
    steps.take(4)
    run.network.device.write(bias, before["dense3.bias"])  # the next loss is finite
    steps.take(5)
    assert run.optimiser.bad_step() == 4
    after = run.network.state()
    assert all(after[name].tobytes() == before[name].tobytes() for name in before)


@pytest.mark.gxx
def test_the_launch_list_names_its_operations():
    run = ExampleSteps("emulated")
    capturing = capture_step(run.network, run.optimiser, run.config.train, run.feed, constrained=True)
    names = list(dict.fromkeys(launch.operation for launch in capturing.launches))
    assert names[:3] == ["batch", "warp", "conv1"]
    assert names[names.index("mse") :][:4] == ["mse", "mse backward", "constraints backward", "dense3 backward"]
    assert names[-2:] == ["conv1 backward", "update"]
    assert [launch.kernel.name for launch in capturing.launches][-1] == "step_counter_advance"
    assert not any(launch.side_stream for launch in capturing.launches)


def test_a_captured_step_runs_nothing_and_checks_as_ever():
    capturing = CapturingBackend(backend)
    x = capturing.empty((2, 3, 5, 4))
    pooled, code = maxpool2d.forward(x)
    assert pooled.shape == (2, 2, 3, 4)
    assert (code.dtype, code.nbytes) == (np.uint8, 48)
    assert [launch.kernel.name for launch in capturing.launches] == ["maxpool2d_forward_vectorised"]
    with pytest.raises(InputError, match="x has shape"):
        maxpool2d.forward(capturing.empty((2, 3, 5)))
    with pytest.raises(InputError, match="one device, got gradient on a step that is captured, y on emulated"):
        relu.backward(capturing.empty((4,)), np.zeros(4, np.float32))
    with pytest.raises(GzkernError, match="has no values to read"):
        capturing.asnumpy(pooled)
    with pytest.raises(GzkernError, match="cannot become"):
        x.reshape(7)


def test_memory_serves_one_after_the_other():
    a, b, c = (Block(1000, name) for name in "abc")
    geometry = Geometry((1,), (1,))
    chain = [
        Launch("", Kernel("", ""), geometry, tuple(Buffer(None, block, (1000,), np.uint8) for block in pair))
        for pair in ((a, b), (b, c))
    ]
    assert arena_bytes(lay_out(chain)) == 2048  # c takes the place of a
    assert arena_bytes(lay_out(chain, [Buffer(None, a, (1000,), np.uint8)])) == 3072
