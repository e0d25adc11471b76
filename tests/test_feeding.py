"""Feeds: every step finds its own batch in the ring, a block ahead, from any step on."""

import numpy as np
import pytest
from small import small_config

from gzkern.augment.pool import BatchPool
from gzkern.augment.tables import tables
from gzkern.errors import InputError
from gzkern.feeding import CropFeed, ImageFeed, RingFeed
from gzkern.models.network import empty_network

SLOTS = 4


class Ring:
    """A ring that insists on the order of things, and remembers them."""

    def __init__(self, slots, arrays):
        self.arrays = {name: np.zeros((2, slots, *shape), dtype) for name, (shape, dtype) in arrays.items()}
        self.slots, self.log, self.inside, self.ready = slots, [], None, set()

    def host(self, half):
        assert half != self.inside, "a half that is being read"
        return {name: array[half] for name, array in self.arrays.items()}

    def send(self, half):
        self.log.append(("send", half))
        self.ready.add(half)

    def enter(self, half):
        assert half in self.ready
        self.log.append(("enter", half))
        self.inside = half
        self.ready.discard(1 - half)

    def close(self):
        self.log.append("closed")

    def read(self, name, step):
        assert step // self.slots % 2 == self.inside
        return self.arrays[name].reshape(-1, *self.arrays[name].shape[2:])[step % (2 * self.slots)]


class Backend:
    """As much of one as a feed asks for."""

    def ring(self, slots, arrays):
        self.made = Ring(slots, arrays)
        return self.made

    def asarray(self, array):
        return array


class Numbers(RingFeed):
    """The batch of a step is its number."""

    def fill(self, first, stop, slots):
        slots["number"][: stop - first] = np.arange(first, stop)


@pytest.mark.parametrize(
    ("first", "stop", "slots"), [(0, 19, SLOTS), (6, 19, SLOTS), (7, 8, SLOTS), (0, 5, 1), (3, 9, 50)]
)
def test_every_step_finds_its_batch(first, stop, slots):
    backend = Backend()
    feed = Numbers(backend, slots, {"number": ((), np.int64)}, stop)
    for step in range(first, stop):
        feed.provide(step)
        assert backend.made.read("number", step) == step
    assert feed.take_wait_s() >= 0
    assert feed.take_wait_s() == 0


def test_a_block_is_sent_while_the_one_before_is_read():
    backend = Backend()
    feed = Numbers(backend, SLOTS, {"number": ((), np.int64)}, 3 * SLOTS)
    for step in range(3 * SLOTS):
        feed.provide(step)
    assert backend.made.log == [("send", 0), ("enter", 0), ("send", 1), ("enter", 1), ("send", 0), ("enter", 0)]


@pytest.fixture
def material():
    rng = np.random.default_rng(0)
    config = small_config("train.batch=3", "train.chunk=6", "train.examples=30")
    images, labels = rng.integers(0, 256, (7, 230, 240, 3), np.uint8), rng.random((7, 37), np.float32)
    return config, empty_network(config, "cpu"), images, labels, lambda start, stop: np.arange(start, stop) % 7


def test_images_are_told_how_to_be_warped(material):
    config, network, images, labels, index_of = material
    backend = Backend()
    feed = ImageFeed(backend, network, images, labels, index_of, config, stop=10)
    for step in (4, 5, 6):
        feed.provide(step)
        examples = np.arange(3 * step, 3 * step + 3)
        indices = examples % 7
        expected = tables(examples, indices, config.train.seed, config.augment, config.data, (230, 240))
        got = [backend.made.read(name, step) for name in ("indices", "matrices", "shifts", "targets")]
        for have, want in zip(got, (indices, *expected, labels[indices].T), strict=True):
            np.testing.assert_array_equal(have, want)


def test_an_index_beyond_the_images_never_reaches_the_device(material):
    config, network, images, labels, _ = material
    labels = np.concatenate([labels, labels])
    feed = ImageFeed(Backend(), network, images, labels, lambda start, stop: np.arange(start, stop) % 9, config, 10)
    with pytest.raises(InputError, match="indices has the entry 8, expected 0 to 6"):
        feed.provide(0)


def test_crops_of_the_pool_are_sent_as_they_are(material):
    pytest.importorskip("numba", exc_type=ImportError)
    config, network, images, labels, index_of = material

    def pool():
        settings = {"seed": 1, "augment": config.augment, "data": config.data, "batch": 3, "first": 6, "stop": 30}
        return BatchPool(images, labels, index_of, **settings, workers=0)

    backend = Backend()
    feed = CropFeed(backend, network, pool(), 3, 10)
    for step, batch in enumerate(pool(), start=2):
        feed.provide(step)
        np.testing.assert_array_equal(backend.made.read("crops", step), batch.crops)
        np.testing.assert_array_equal(backend.made.read("targets", step), batch.labels.T)
    feed.close()
