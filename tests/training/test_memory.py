"""Memory before it is used: the layout of any list of launches, what a step takes, the largest batch."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_configs import small_config

from gzkern.config import load_config
from gzkern.errors import InputError
from gzkern.runtime.capture import Block, Buffer, Launch, arena_bytes, lay_out
from gzkern.runtime.emulator.backend import LIMITS
from gzkern.runtime.kernel import Geometry, Kernel
from gzkern.training.memory import largest, largest_batch, step_memory, with_batch


@st.composite
def lists(draw):
    """Launches over blocks of random sizes, each using a few."""
    blocks = [Block(size, "") for size in draw(st.lists(st.integers(0, 3000), min_size=1, max_size=12))]
    uses = draw(st.lists(st.tuples(st.sets(st.sampled_from(blocks), min_size=1), st.booleans()), max_size=12))
    geometry = Geometry((1,), (1,))
    return [
        Launch("", Kernel("", ""), geometry, tuple(Buffer(None, b, (b.nbytes,), np.uint8) for b in used), side_stream)
        for used, side_stream in uses
    ]


@given(lists())
def test_nothing_that_is_in_use_at_once_overlaps(launches):
    places = lay_out(launches)
    assert {place.block for place in places} == {block for launch in launches for block in launch.blocks()}
    for place in places:
        assert place.offset % 256 == 0
        assert place.end <= arena_bytes(places)
        used = [index for index, launch in enumerate(launches) if place.block in launch.blocks()]
        assert place.first <= min(used)
        assert place.last >= max(used)
        beside = any(launch.side_stream and place.block in launch.blocks() for launch in launches)
        assert not beside or place.last >= len(launches) - 1
        for other in places:
            if other is not place and place.first <= other.last and other.first <= place.last:
                assert place.end <= other.offset or other.end <= place.offset


def test_the_published_step_stays_below_a_gigabyte():
    memory = step_memory(load_config("paper"), LIMITS)
    assert memory.weights == memory.velocities == 4 * 42_377_125
    assert memory.arena < 0.6 * memory.made
    parts = memory.weights, memory.velocities, memory.staging_buffers, memory.validation, memory.arena
    assert sum(parts) == memory.total < 1e9
    assert {place.block.name for place in memory.places} >= {"warp", "conv1", "dense1 backward", "constraints"}


@pytest.mark.gxx
@pytest.mark.parametrize("precision", ["fp32", "tf32"])
def test_the_forecast_is_what_a_step_then_takes(precision):
    from example_steps import ExampleSteps

    from gzkern.runtime.capture import Program
    from gzkern.training.step import capture_step

    run = ExampleSteps("emulated", f"train.precision={precision}")
    program = Program(capture_step(run.network, run.optimiser, run.config.train, run.feed, True))
    forecast = step_memory(run.config, LIMITS)
    assert [(p.first, p.last, p.offset, p.block.nbytes) for p in program.places] == [
        (p.first, p.last, p.offset, p.block.nbytes) for p in forecast.places
    ]
    assert program._arena.nbytes == forecast.arena
    assert forecast.launches == len(program.launches)


@pytest.mark.parametrize(
    ("need", "available", "best"),
    [
        (lambda batch: 1000 + 10 * batch, 1079, 0),
        (lambda batch: 1000 + 10 * batch, 1080, 8),
        (lambda batch: 1000 + 10 * batch, 9000, 800),
        (lambda batch: 1000 + 10 * batch + batch % 3 * 40, 9039, 792),
    ],
)
def test_the_largest_batch(need, available, best):
    assert largest(need, available) == best


def test_the_largest_batch_below_one_that_is_refused():
    def need(batch):
        if batch > 1000:
            raise InputError("too many elements")
        return batch

    assert 800 < largest(need, 10**9) <= 1000


def test_a_batch_that_is_said_to_fit_does():
    config = small_config("train.precision=tf32", "train.examples=1000000")
    batch = largest_batch(config, LIMITS, 2**28)
    assert batch > 100
    assert step_memory(with_batch(config, batch), LIMITS).total <= 2**28
