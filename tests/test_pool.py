import signal
import threading
import time

import numpy as np
import pytest

from gzkern.augment.geometry import crop_matrices
from gzkern.augment.parameters import COLOUR_AXIS, draw
from gzkern.augment.pool import BatchPool, identity_crops
from gzkern.augment.warp import warp_reference
from gzkern.config import AugmentConfig, DataConfig
from gzkern.errors import GzkernError, InputError

COUNT = 23
IMAGES = np.random.default_rng(0).integers(0, 256, (COUNT, 64, 60, 3), dtype=np.uint8)
LABELS = np.random.default_rng(1).random((COUNT, 37), dtype=np.float32)
DATA = DataConfig(crop=22, target=11, scale=2.0)
RECENTRING = np.random.default_rng(2).uniform((25, 25, 0.8), (35, 35, 1.2), (COUNT, 3))


def index_of(start, stop):
    return np.arange(start, stop) * 7 % COUNT


def pool_of(labels=LABELS, index_of=index_of, **changes):
    arguments = {"seed": 5, "augment": AugmentConfig(), "data": DATA, "batch": 8, "first": 0, "stop": 60}
    return BatchPool(IMAGES, labels, index_of, **arguments | {"workers": 2} | changes)


def threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("gzkern-augment")]


@pytest.fixture(autouse=True)
def no_thread_is_left_behind():
    assert not threads()
    yield
    assert not threads()


class SlowLabels:
    """Labels that take their time, and keep what they were asked."""

    def __init__(self, *seconds):
        self.seconds, self.calls = list(seconds), []

    def __getitem__(self, indices):
        self.calls.append(indices)
        time.sleep(self.seconds.pop(0) if self.seconds else 0)
        return LABELS[indices]


@pytest.mark.parametrize("workers", [0, 1, 2, 5])
@pytest.mark.parametrize("recentring", [None, RECENTRING])
def test_batches(workers, recentring):
    batches = list(pool_of(workers=workers, first=3, recentring=recentring))
    assert [len(batch.examples) for batch in batches] == [8] * 7 + [1]
    np.testing.assert_array_equal(np.concatenate([batch.examples for batch in batches]), np.arange(3, 60))
    for batch in batches:
        np.testing.assert_array_equal(batch.indices, index_of(batch.examples[0], batch.examples[-1] + 1))
        np.testing.assert_array_equal(batch.labels, LABELS[batch.indices])
        parameters = draw(5, batch.examples, AugmentConfig())
        objects = None if recentring is None else recentring[batch.indices]
        matrices = crop_matrices(parameters, (64, 60), 11, 2.0, objects)
        for b, index in enumerate(batch.indices):
            expected = warp_reference(IMAGES[index], matrices[b], 11, parameters.colour[b] * np.array(COLOUR_AXIS))
            np.testing.assert_allclose(batch.crops[b], expected, rtol=0, atol=5e-7)


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_workers_and_their_speed_change_nothing(workers):
    alone = list(pool_of(workers=0))
    delayed = list(pool_of(SlowLabels(0.05, 0, 0.03, 0, 0.02), workers=workers, prefetch=3))
    for one, other in zip(alone, delayed, strict=True):
        for name in ("examples", "indices", "crops", "labels"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


def test_a_stream_cut_elsewhere_is_the_same_stream():
    whole = np.concatenate([batch.crops for batch in pool_of()])
    tail = np.concatenate([batch.crops for batch in pool_of(first=21, batch=5, workers=1)])
    np.testing.assert_array_equal(whole[21:], tail)


def test_a_batch_outlives_the_next():
    batches = iter(pool_of())
    first = next(batches)
    kept = first.crops.copy()
    assert len(list(batches)) == 7
    np.testing.assert_array_equal(first.crops, kept)


def test_nothing_to_do():
    assert list(pool_of(first=60)) == []


@pytest.mark.parametrize("workers", [0, 2])
def test_stopping_early(workers):
    for batch in pool_of(workers=workers):
        if batch.examples[0] == 16:
            break
    assert not threads()
    batches = iter(pool_of(workers=workers))
    next(batches)
    batches.close()
    assert not threads()


@pytest.mark.parametrize("kind", [ValueError, KeyboardInterrupt])
def test_an_exception_in_the_loop_ends_the_threads(kind):
    def read():
        for batch in pool_of():
            raise kind(batch.examples[0])

    with pytest.raises(kind) as caught:
        read()
    assert caught.tb is not None  # the frame is alive, and still
    assert not threads()


def test_with_ends_the_threads_of_an_iterator_that_is_kept():
    with pool_of(SlowLabels(0, 0.05, 0.05)) as pool:
        batches = iter(pool)
        next(batches)
        assert threads()
    assert not threads()
    assert list(batches) == []


@pytest.fixture
def interruptible():
    """Python does not listen to SIGINT where a shell started it in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_interrupting_a_reader_that_waits():
    main = threading.main_thread().ident
    timer = threading.Timer(0.1, signal.pthread_kill, (main, signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        next(iter(pool_of(SlowLabels(0.4), workers=1)))
    timer.join()
    assert not threads()


@pytest.mark.parametrize("workers", [0, 1, 5])
def test_a_worker_s_exception_reaches_the_reader_in_its_turn(workers):
    def broken(start, stop):
        return index_of(start, stop) + (COUNT if start == 24 else 0)

    batches = iter(pool_of(index_of=broken, workers=workers))
    assert [next(batches).examples[0] for _ in range(3)] == [0, 8, 16]
    with pytest.raises(GzkernError, match=r"failed in examples 24 to 31: warp: indices .* 0 to 22") as caught:
        next(batches)
    assert isinstance(caught.value.__cause__, InputError)
    assert not threads()


def test_an_exception_of_the_sampler_reaches_the_reader():
    def broken(start, stop):
        raise LookupError("no chunk")

    with pytest.raises(LookupError, match="no chunk"):
        list(pool_of(index_of=broken))


@pytest.mark.parametrize(("workers", "prefetch", "ahead"), [(1, 3, 3), (4, 2, 4)])
def test_only_so_many_batches_are_prepared_ahead(workers, prefetch, ahead):
    labels = SlowLabels()
    with pool_of(labels, workers=workers, prefetch=prefetch, stop=8 * 50) as pool:
        batches = iter(pool)
        for read in range(1, 20):
            next(batches)
            assert len(labels.calls) <= read + ahead
        wait_until(lambda: pool.queue_fill == 1.0)
        assert len(labels.calls) == 19 + ahead


def wait_until(condition):
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_metrics():
    with pool_of(SlowLabels(0.2, 0, 0.5), workers=1, prefetch=2) as pool:
        assert pool.queue_fill == 0
        batches = iter(pool)
        next(batches)
        assert 0.2 <= pool.take_wait_s() < 5
        assert pool.take_wait_s() == 0
        wait_until(lambda: pool.queue_fill == 0.5)  # the second is ready, the third takes its time
        wait_until(lambda: pool.queue_fill == 1.0)
        next(batches)
        assert pool.take_wait_s() < 0.1


@pytest.mark.parametrize("change", [{"batch": 0}, {"workers": -1}, {"prefetch": 0}])
def test_counts_that_are_too_small_are_refused(change):
    with pytest.raises(InputError, match=f"{next(iter(change))}: expected at least"):
        pool_of(**change)


def test_identity_crops():
    indices = np.array([4, 0, 4])
    plain = identity_crops(IMAGES, indices, DATA)
    assert plain.shape == (3, 2, 11, 11, 3)
    pixels = IMAGES[4].astype(np.float32)  # crop 0: x = 29.5 + 2 (column − 5), y = 31.5 + 2 (row − 5)
    rows = pixels[21:42:2] + pixels[22:43:2]
    block = (rows[:, 19:40:2] + rows[:, 20:41:2]) / np.float32(4) / np.float32(255)
    np.testing.assert_array_equal(plain[0, 0], block)
    np.testing.assert_array_equal(plain[0], plain[2])
    recentred = identity_crops(IMAGES, indices, DATA, RECENTRING)
    assert abs(recentred - plain).max() > 0.1
