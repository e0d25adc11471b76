import gc
import os
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from gzkern.augment.geometry import crop_matrices
from gzkern.augment.parameters import COLOUR_AXIS, draw
from gzkern.augment.pool import Batch, BatchPool, identity_crops, new_staging_buffer
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


def pool_of(labels=LABELS, index_of=index_of, images=IMAGES, staging_buffer=None, batch=8, slots=4, **changes):
    arguments = {"seed": 5, "augment": AugmentConfig(), "data": DATA, "first": 0, "stop": 64, "workers": 2}
    staging_buffer = new_staging_buffer(slots, batch, DATA.target, 37) if staging_buffer is None else staging_buffer
    return BatchPool(images, labels, index_of, staging_buffer, **arguments | changes)


def all_of(pool):
    """Copies of all batches: the staging buffer is overwritten."""
    return [Batch(b.examples, b.indices, b.crops.copy(), b.targets.copy()) for b in pool]


def threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("gzkern-augment")]


@pytest.fixture(autouse=True)
def no_thread_is_left_behind():
    assert not threads()
    yield
    assert not threads()


class SlowLabels:
    """Labels that take their time, and keep what they were asked."""

    shape = LABELS.shape

    def __init__(self, *seconds):
        self.seconds, self.calls = list(seconds), []

    def __getitem__(self, indices):
        self.calls.append(indices)
        time.sleep(self.seconds.pop(0) if self.seconds else 0)
        return LABELS[indices]

    def batches(self):
        """Of eight, that were asked for."""
        return sum(len(indices) for indices in self.calls) // 8


@pytest.mark.parametrize("slots", [2, 3, 7, 40])  # of 7, tasks of three batches begin anew in their midst
@pytest.mark.parametrize("workers", [0, 1, 2, 5])
@pytest.mark.parametrize("recentring", [None, RECENTRING])
def test_batches(workers, recentring, slots):
    batches = all_of(pool_of(workers=workers, first=8, recentring=recentring, slots=slots))
    assert [len(batch.examples) for batch in batches] == [8] * 7
    np.testing.assert_array_equal(np.concatenate([batch.examples for batch in batches]), np.arange(8, 64))
    for batch in batches:
        np.testing.assert_array_equal(batch.indices, index_of(batch.examples[0], batch.examples[-1] + 1))
        np.testing.assert_array_equal(batch.targets, LABELS[batch.indices].T)
        parameters = draw(5, batch.examples, AugmentConfig())
        objects = None if recentring is None else recentring[batch.indices]
        matrices = crop_matrices(parameters, (64, 60), 11, 2.0, objects)
        for b, index in enumerate(batch.indices):
            expected = warp_reference(IMAGES[index], matrices[b], 11, parameters.colour[b] * np.array(COLOUR_AXIS))
            np.testing.assert_allclose(batch.crops[b], expected, rtol=0, atol=5e-7)


@pytest.mark.parametrize("workers", [1, 2, 5])
@pytest.mark.parametrize("slots", [2, 7])
def test_workers_and_their_speed_change_nothing(workers, slots):
    alone = all_of(pool_of(workers=0))
    delayed = all_of(pool_of(SlowLabels(0.05, 0, 0.03, 0, 0.02), workers=workers, slots=slots))
    for one, other in zip(alone, delayed, strict=True):
        for name in ("examples", "indices", "crops", "targets"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


def test_a_stream_cut_elsewhere_is_the_same_stream():
    whole = np.concatenate([batch.crops for batch in all_of(pool_of())])
    tail = np.concatenate([batch.crops for batch in all_of(pool_of(first=20, stop=60, batch=5, workers=1))])
    np.testing.assert_array_equal(whole[20:60], tail)


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_a_batch_lies_in_its_slot_until_it_is_released(workers):
    staging_buffer = new_staging_buffer(3, 8, DATA.target, 37)
    with pool_of(staging_buffer=staging_buffer, workers=workers, first=16) as pool:
        held = [pool.take(), pool.take()]
        kept = [(batch.crops.copy(), batch.targets.copy()) for batch in held]
        for k, batch in enumerate(held, start=2):
            assert batch.crops.base is staging_buffer["crops"]
            np.testing.assert_array_equal(batch.crops, staging_buffer["crops"][k % 3])
            np.testing.assert_array_equal(batch.targets, staging_buffer["targets"][k % 3])
        time.sleep(0.05)
        for batch, (crops, targets) in zip(held, kept, strict=True):
            np.testing.assert_array_equal(batch.crops, crops)
            np.testing.assert_array_equal(batch.targets, targets)
        pool.release()
        pool.release()
        with pytest.raises(GzkernError, match="no batch is held"):
            pool.release()
        assert pool.take().examples[0] == 32


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("slots", [1, 3])
def test_a_reader_that_holds_all_slots_is_told(slots, workers):
    with pool_of(slots=slots, workers=workers) as pool:
        for _ in range(slots):
            pool.take()
        with pytest.raises(GzkernError, match=f"the reader holds all {slots} slots"):
            pool.take()
    assert not threads()


def test_nothing_to_do():
    assert list(pool_of(first=64)) == []
    assert list(pool_of(first=72)) == []


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
    with pool_of(SlowLabels(0, 0.05, 0.05), slots=2) as pool:
        batches = iter(pool)
        next(batches)
        assert threads()
    assert not threads()
    assert list(batches) == []
    with pytest.raises(GzkernError, match="no batch after example 7"):
        pool.take()


def test_a_pool_that_is_forgotten_leaves_no_thread():
    pool = pool_of()
    pool.take()
    assert threads()
    del pool
    gc.collect()
    assert not threads()


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

    batches = iter(pool_of(index_of=broken, workers=workers, slots=workers + 1))  # a batch a task
    assert [next(batches).examples[0] for _ in range(3)] == [0, 8, 16]
    with pytest.raises(GzkernError, match=r"failed in examples 24 to 31: warp: indices .* 0 to 22") as caught:
        next(batches)
    assert isinstance(caught.value.__cause__, InputError)
    assert not threads()


def test_an_exception_of_the_sampler_reaches_the_reader():
    def broken(start, stop):
        raise LookupError("no chunk")

    with pytest.raises(GzkernError, match="examples 0 to 7: no chunk"):
        list(pool_of(index_of=broken, workers=0))


@pytest.mark.parametrize(("workers", "slots"), [(1, 3), (4, 2), (3, 8), (1, 40)])
def test_no_more_batches_are_prepared_ahead_than_there_are_slots(workers, slots):
    labels = SlowLabels()
    with pool_of(labels, workers=workers, slots=slots, stop=8 * 200) as pool:
        for read in range(1, 60):
            pool.take()
            assert labels.batches() < read + slots
            pool.release()
        wait_until(lambda: labels.batches() >= 59 + max(1, slots // 2))
        assert labels.batches() <= 59 + slots


def test_many_images_make_a_task_but_never_so_many_that_a_thread_goes_without():
    for workers, slots, batch, size in [(1, 64, 8, 16), (1, 64, 1, 32), (7, 64, 8, 8), (63, 64, 8, 1), (99, 64, 8, 1)]:
        assert pool_of(workers=workers, slots=slots, batch=batch)._tasks.size == size


def wait_until(condition):
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_a_slow_reader_and_a_slow_pool_are_told_apart():
    with pool_of(slots=5, workers=1, stop=8 * 400) as pool:
        pool.take()  # compiles
        pool.take_report()
        for _ in range(20):
            time.sleep(0.01)
            pool.release()
            pool.take()
        report = pool.take_report()
        assert report["queue_fill"] > 0.5
        assert report["wait_s"] < 0.1
        assert report["pool_wait_s"] > 0.1
        assert report["pool_images_per_s"] > 0
    with pool_of(SlowLabels(*[0.01] * 99), slots=3, workers=1, stop=8 * 40) as pool:
        pool.take()
        pool.take_report()
        for _ in range(20):
            pool.release()
            pool.take()
        report = pool.take_report()
        assert report["queue_fill"] < 0.5
        assert report["wait_s"] > 0.1
        assert report["pool_wait_s"] < 0.1
        assert 0 < report["pool_images_per_s"] < 8 / 0.01
        assert pool.take_report() == {
            "queue_fill": 0.0,
            "wait_s": 0.0,
            "pool_images_per_s": None,
            "pool_wait_s": pytest.approx(0, abs=0.1),
        }


def resident_bytes():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="the system does not tell the memory of a process")
def test_soak():
    """200,000 images for a reader that is slow, then fast: each once, in memory that stays what it was."""
    count, batch, data = 200_000, 16, DataConfig()
    images = np.random.default_rng(4).integers(0, 256, (64, 424, 424, 3), np.uint8)
    labels = np.random.default_rng(5).random((64, 37), np.float32)
    seen = np.zeros(count, np.int64)
    memory = []

    def index_of(start, stop):
        return np.arange(start, stop) * 13 % 64

    staging_buffer = new_staging_buffer(32, batch, data.target, 37)
    settings = {"seed": 1, "augment": AugmentConfig(), "data": data, "workers": 3}
    for number, b in enumerate(BatchPool(images, labels, index_of, staging_buffer, first=0, stop=count, **settings)):
        seen[b.examples] += 1
        np.testing.assert_array_equal(b.targets, labels[index_of(b.examples[0], b.examples[-1] + 1)].T)
        if number % 500 == 250:
            memory.append(resident_bytes())
            alone = BatchPool(
                images, labels, index_of, new_staging_buffer(1, batch, data.target, 37),
                **settings | {"first": b.examples[0], "stop": b.examples[-1] + 1, "workers": 0},
            ).take()  # fmt: skip
            np.testing.assert_array_equal(b.crops, alone.crops)
        if number < 2_000:
            time.sleep(0.005)
    assert (seen == 1).all()
    assert len(memory) == 25
    assert max(memory[3:]) - memory[3] < 4 << 20


class Files:
    """Images that are decoded as they are used."""

    shape = IMAGES.shape

    def __getitem__(self, indices):
        return IMAGES[indices]


@pytest.mark.parametrize("workers", [0, 2])
def test_images_in_files_give_the_same(workers):
    for one, other in zip(all_of(pool_of()), all_of(pool_of(images=Files(), workers=workers)), strict=True):
        np.testing.assert_array_equal(one.crops, other.crops)
    np.testing.assert_array_equal(
        identity_crops(Files(), np.array([3, 1]), DATA, RECENTRING),
        identity_crops(IMAGES, np.array([3, 1]), DATA, RECENTRING),
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"workers": -1}, "workers: expected at least 0, got -1"),
        ({"first": 3}, "examples 3 to 64: expected whole batches of 8"),
        ({"stop": 63}, "examples 0 to 63: expected whole batches of 8"),
        (
            {"staging_buffer": {name: array[::2] for name, array in new_staging_buffer(8, 8, 11, 37).items()}},
            "crops has strides .* C-cont",
        ),
        (
            {"staging_buffer": new_staging_buffer(4, 8, 12, 37)},
            r"pool: crops has shape \(4, 8, 2, 12, 12, 3\), expected",
        ),
        (
            {"staging_buffer": new_staging_buffer(4, 8, 11, 36)},
            r"pool: targets has shape \(4, 36, 8\), expected \(4, 37, 8\)",
        ),
    ],
)
def test_what_does_not_fit_is_refused(change, message):
    with pytest.raises(InputError, match=message):
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
