"""A staging buffer on a device that copies late: each of its waits, left out, gives wrong numbers."""

import numpy as np
import pytest
from fake_cupy import queues, streams

from gzkern.cuda.gather_batch import gather
from gzkern.runtime import cuda_backend
from gzkern.training.feeds import StagedFeed

POLICIES = ("late", "early", *(f"random:{seed}" for seed in range(8)))
STEPS, SLOTS, SHAPE = 31, 3, (64,)


class Numbers(StagedFeed):
    """The batch of a step is its number."""

    def fill(self, first, stop):
        self.staging_buffer.wait_sent(first // self._slots - self._blocks)
        slot = first % (self._slots * self._blocks)
        values = np.arange(first, stop, dtype=np.float32)
        self.staging_buffer.host["number"][slot : slot + stop - first] = values[:, np.newaxis]

    def take_report(self):
        return {}


@pytest.fixture(autouse=True)
def a_policy_for_this_test_alone():
    yield
    queues.set_policy("late")


def trained(policy, blocks=2, mutate=lambda staging_buffer: None):
    """Say whether every step found its batch, and memory that was given back stayed its new owner's."""
    queues.set_policy(policy)
    backend = cuda_backend.backend()
    garbage = backend.asarray(np.full((2 * SLOTS, *SHAPE), -1, np.float32))
    del garbage  # the staging buffer gets its memory
    feed = Numbers(backend, SLOTS, blocks, {"number": (SHAPE, np.float32)}, STEPS)
    mutate(feed.staging_buffer)
    taken = []
    for step in range(STEPS):
        feed.provide(step)
        taken.append(gather(feed.staging_buffer.arrays["number"], backend.asarray(np.array([step]))))
    numbers = [backend.asnumpy(each) for each in taken]
    return all((number == step).all() for step, number in enumerate(numbers))


def closed_early(policy, mutate=lambda staging_buffer: None):
    """Say whether memory of a staging buffer that was closed with a copy under way is its next owner's."""
    queues.set_policy(policy)
    backend = cuda_backend.backend()
    feed = Numbers(backend, SLOTS, 2, {"number": (SHAPE, np.float32)}, STEPS)
    mutate(feed.staging_buffer)
    feed.provide(0)
    feed.provide(1)  # sends the next block, which nobody enters
    feed.close()
    del feed
    other = backend.empty((2 * SLOTS, *SHAPE))
    backend.write(other, np.full(other.shape, 7, np.float32))
    queues.finish_all()
    return (backend.asnumpy(other) == 7).all()


def nothing(*arguments, **options):
    pass


def send_without_waiting(staging_buffer):
    staging_buffer._copies.wait_event = nothing


def enter_without_waiting(staging_buffer):
    streams.default.wait_event = nothing


def wait_sent_without_waiting(staging_buffer):
    for event in staging_buffer._copied:
        event.synchronize = nothing


def enter_without_recording(staging_buffer):
    for event in staging_buffer._read:
        event.record = nothing


def send_without_recording(staging_buffer):
    for event in staging_buffer._copied:
        event.record = nothing


def begin_without_recording(staging_buffer):
    for event in staging_buffer._read:
        event.work = None


def close_without_waiting(staging_buffer):
    staging_buffer._copies.synchronize = nothing


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("blocks", [2, 3])
def test_every_step_finds_its_batch(policy, blocks):
    assert trained(policy, blocks)


@pytest.mark.parametrize("policy", POLICIES)
def test_memory_of_a_closed_ring_is_free(policy):
    assert closed_early(policy)


@pytest.mark.parametrize(
    "bug",
    [
        send_without_waiting,
        enter_without_waiting,
        wait_sent_without_waiting,
        enter_without_recording,
        send_without_recording,
        begin_without_recording,
    ],
)
def test_a_missing_wait_shows(bug, monkeypatch):
    monkeypatch.setattr(streams.default, "wait_event", streams.default.wait_event)  # back after the test
    assert not trained("late", mutate=bug)


def test_a_close_that_does_not_wait_shows():
    assert not closed_early("late", close_without_waiting)
