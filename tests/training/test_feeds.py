"""Feeds: every step finds its own batch in the staging buffer, a block ahead, from any step on."""

import numpy as np
import pytest
from small_configs import small_config

from gzkern.augment.pool import BatchPool, new_staging_buffer
from gzkern.augment.tables import tables
from gzkern.errors import InputError
from gzkern.models.network import empty_network
from gzkern.training.feeds import CropFeed, ImageFeed, StagedFeed

SLOTS = 4


class StagingBuffer:
    """A staging buffer that insists on the order of calls, and keeps them; a block is sent when it is waited for."""

    def __init__(self, slots, blocks, arrays):
        self.slots, self.blocks, self.log, self.inside, self.leaving = slots, blocks, [], None, {}
        self.arrays = {name: np.zeros((2 * slots, *shape), dtype) for name, (shape, dtype) in arrays.items()}
        self.host = {name: np.zeros((blocks * slots, *shape), dtype) for name, (shape, dtype) in arrays.items()}

    def send(self, block):
        assert self.inside is None or block % 2 != self.inside % 2, "to a place that is being read"
        self.log.append(("send", block))
        self.leaving[block] = None

    def wait_sent(self, block):
        if block in self.leaving:
            del self.leaving[block]
            to, start = block % 2 * self.slots, block % self.blocks * self.slots
            for name, array in self.arrays.items():
                array[to : to + self.slots] = self.host[name][start : start + self.slots]

    def enter(self, block):
        self.log.append(("enter", block))
        self.wait_sent(block)
        self.inside = block

    def close(self):
        self.log.append("closed")

    def read(self, name, step):
        assert step // self.slots == self.inside
        return self.arrays[name][step % (2 * self.slots)]


class LateStagingBuffer(StagingBuffer):
    """The staging buffer of a late device: it reads and copies when somebody waits, or at the end."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.queue = []

    def send(self, block):
        self.leaving[block] = None

    def wait_sent(self, block):
        if block in self.leaving:
            while ("enter", block - 1) in self.queue:  # the steps before it read what the copy replaces
                self.do_next()
            super().wait_sent(block)

    def enter(self, block):
        self.queue.append(("enter", block))

    def read_later(self, check):
        self.queue.append(("read", check))

    def do_next(self):
        what, argument = self.queue.pop(0)
        if what == "enter":
            self.wait_sent(argument)
            self.inside = argument
        else:
            argument()

    def finish(self):
        while self.queue:
            self.do_next()


class Backend:
    """As much of one as a feed asks for."""

    def __init__(self, kind=StagingBuffer):
        self.kind = kind

    def staging_buffer(self, slots, blocks, arrays):
        self.made = self.kind(slots, blocks, arrays)
        return self.made

    def asarray(self, array):
        return array


class Numbers(StagedFeed):
    """The batch of a step is its number."""

    def fill(self, first, stop):
        self.staging_buffer.wait_sent(first // self._slots - self._blocks)
        slot = first % (self._slots * self._blocks)
        shape = (-1, *[1] * (self.staging_buffer.host["number"].ndim - 1))
        self.staging_buffer.host["number"][slot : slot + stop - first] = np.arange(first, stop).reshape(shape)

    def take_report(self):
        return {}


@pytest.mark.parametrize("blocks", [2, 3])
@pytest.mark.parametrize(
    ("first", "stop", "slots"), [(0, 19, SLOTS), (6, 19, SLOTS), (7, 8, SLOTS), (0, 5, 1), (3, 9, 50)]
)
def test_every_step_finds_its_batch(first, stop, slots, blocks):
    backend = Backend()
    feed = Numbers(backend, slots, blocks, {"number": ((), np.int64)}, stop)
    for step in range(first, stop):
        feed.provide(step)
        assert backend.made.read("number", step) == step


@pytest.mark.gpu
@pytest.mark.parametrize("blocks", [2, 3])
def test_every_step_finds_its_batch_on_a_gpu(blocks):
    """By launches that read the staging buffer while its other half is copied from page-locked memory."""
    from gzkern.cuda.gather_batch import take
    from gzkern.runtime.cuda_backend import backend

    gpu, steps = backend(), 40
    feed = Numbers(gpu, 3, blocks, {"number": ((4096,), np.float32)}, steps)
    taken = []
    for step in range(steps):
        feed.provide(step)
        taken.append(take(feed.staging_buffer.arrays["number"], gpu.asarray(np.array([step]))))
    feed.close()
    assert [set(gpu.asnumpy(numbers).tolist()) for numbers in taken] == [{step} for step in range(steps)]


def test_a_block_is_sent_while_the_one_before_is_read():
    backend = Backend()
    feed = Numbers(backend, SLOTS, 2, {"number": ((), np.int64)}, 3 * SLOTS)
    for step in range(3 * SLOTS):
        feed.provide(step)
    assert backend.made.log == [("send", 0), ("enter", 0), ("send", 1), ("enter", 1), ("send", 2), ("enter", 2)]


@pytest.fixture
def material():
    rng = np.random.default_rng(0)
    config = small_config("train.batch=3", "train.chunk=6", "train.examples=30")
    images, labels = rng.integers(0, 256, (7, 230, 240, 3), np.uint8), rng.random((7, 37), np.float32)
    return config, empty_network(config, "cpu"), images, labels, lambda start, stop: np.arange(start, stop) % 7


@pytest.mark.parametrize("recentring", [None, np.random.default_rng(3).uniform(0.8, 120, (7, 3))])
def test_images_are_told_how_to_be_warped(material, recentring):
    config, network, images, labels, index_of = material
    backend = Backend()
    feed = ImageFeed(backend, network, images, labels, index_of, config, 1000, recentring)
    for step in (4, *range(254, 259), *range(766, 770)):
        feed.provide(step)
        examples = np.arange(3 * step, 3 * step + 3)
        indices = examples % 7
        expected = tables(examples, indices, config.train.seed, config.augment, config.data, (230, 240), recentring)
        got = [backend.made.read(name, step) for name in ("indices", "matrices", "shifts", "targets")]
        for have, want in zip(got, (indices, *expected, labels[indices].T), strict=True):
            np.testing.assert_array_equal(have, want)
    assert feed.take_report()["wait_s"] > 0
    assert feed.take_report() == {"queue_fill": None, "wait_s": 0, "pool_images_per_s": None, "pool_wait_s": None}


def test_an_index_beyond_the_images_never_reaches_the_device(material):
    config, network, images, labels, _ = material
    labels = np.concatenate([labels, labels])
    feed = ImageFeed(Backend(), network, images, labels, lambda start, stop: np.arange(start, stop) % 9, config, 10)
    with pytest.raises(InputError, match="indices has the entry 8, expected 0 to 6"):
        feed.provide(0)


@pytest.mark.parametrize("workers", [0, 1, 3])
@pytest.mark.parametrize("first", [0, 2])
def test_crops_of_the_pool_are_sent_as_they_are(material, workers, first):
    pytest.importorskip("numba", exc_type=ImportError)
    config, network, images, labels, index_of = material
    stop = 400  # in blocks of 42 steps, eight of which are on the host

    def start_pool(staging_buffer, workers=workers):
        settings = {"seed": 1, "augment": config.augment, "data": config.data, "first": 3 * first, "stop": 3 * stop}
        return BatchPool(images, labels, index_of, staging_buffer, **settings, workers=workers)

    backend = Backend()
    feed = CropFeed(backend, network, start_pool, 3, stop)
    for step, batch in enumerate(start_pool(new_staging_buffer(2, 3, network.target, 37), workers=0), start=first):
        feed.provide(step)
        np.testing.assert_array_equal(backend.made.read("crops", step), batch.crops)
        np.testing.assert_array_equal(backend.made.read("targets", step), batch.targets)
    assert step == stop - 1
    assert feed.take_report()["wait_s"] > 0
    feed.close()
    assert backend.made.log[-1] == "closed"


@pytest.mark.parametrize("workers", [0, 2])
def test_nothing_is_overwritten_before_a_late_device_has_copied_it(material, workers):
    pytest.importorskip("numba", exc_type=ImportError)
    config, network, images, labels, index_of = material
    stop = 500

    def start_pool(staging_buffer, workers=workers):
        settings = {"seed": 1, "augment": config.augment, "data": config.data, "first": 0, "stop": 3 * stop}
        return BatchPool(images, labels, index_of, staging_buffer, **settings, workers=workers)

    backend = Backend(LateStagingBuffer)
    feed = CropFeed(backend, network, start_pool, 3, stop)
    staging_buffer = backend.made

    def check(step, crops, targets):
        np.testing.assert_array_equal(staging_buffer.read("crops", step), crops)
        np.testing.assert_array_equal(staging_buffer.read("targets", step), targets)

    alone = start_pool(new_staging_buffer(2, 3, network.target, 37), workers=0)
    for step, batch in enumerate(alone):
        feed.provide(step)
        crops, targets = batch.crops.copy(), batch.targets.copy()
        staging_buffer.read_later(lambda step=step, crops=crops, targets=targets: check(step, crops, targets))
    staging_buffer.finish()
    feed.close()
