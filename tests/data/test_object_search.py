import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from child_processes import children
from galaxies import galaxy

from gzkern.data.object_search import find_objects
from gzkern.data.objects import COLUMNS, find_object
from gzkern.errors import GzkernError, InputError

sep = pytest.importorskip("sep")


@pytest.fixture(scope="module")
def images():
    drawn = [galaxy(40 + 3 * i, 60 - 2 * i, 4 + i / 8, 3 + i / 9, 0.1 * i, size=(96, 100), seed=i) for i in range(35)]
    drawn[7][:] = 9  # nothing to find
    return np.stack(drawn)


@pytest.fixture(scope="module")
def found(images):
    return np.stack([find_object(image, "gen2") for image in images])


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_workers_find_what_one_finds(images, found, workers):
    np.testing.assert_array_equal(find_objects(images, "gen2", workers=workers, progress=False), found)


def test_a_map_and_images_that_are_not_contiguous(images, found, tmp_path):
    np.save(tmp_path / "images.npy", images)
    mapped = np.load(tmp_path / "images.npy", mmap_mode="r")
    np.testing.assert_array_equal(find_objects(mapped, "gen2", workers=2, progress=False), found)
    np.testing.assert_array_equal(find_objects(images[::-1], "gen2", workers=2, progress=False), found[::-1])


def test_threads_find_what_one_finds(images, found):
    with ThreadPoolExecutor(4) as pool:
        got = list(pool.map(lambda image: find_object(image, "gen2"), images))
    np.testing.assert_array_equal(got, found)


def test_no_image_and_one_image(images, found):
    assert find_objects(images[:0], "gen2", progress=False).shape == (0, len(COLUMNS))
    np.testing.assert_array_equal(find_objects(images[:1], "gen2", workers=8, progress=False), found[:1])


def test_bad_arguments(images):
    with pytest.raises(InputError, match="no set 'gen3', expected one of gen1, gen2"):
        find_objects(images, "gen3")
    with pytest.raises(InputError, match="no set 'none'"):
        find_object(images[0], "none")
    with pytest.raises(InputError, match="--workers 0: expected 1 to 256 processes"):
        find_objects(images, "gen2", workers=0)


class Failing:
    """Images, one of which cannot be read."""

    def __init__(self, images, bad):
        self.images, self.bad, self.shape = images, bad, images.shape

    def __len__(self):
        return len(self.images)

    def __getitem__(self, rows):
        if self.bad in rows:
            raise GzkernError(f"{self.bad}.jpg: is gone")
        return self.images[rows]


def test_what_fails_in_a_worker_names_the_image(images):
    before = children()
    bad = images.astype(object)  # of no dtype that sep can take
    bad[20, 0, 0, 1] = "a"
    ids = [f"g{i}" for i in range(len(images))]
    with pytest.raises(GzkernError, match=r"^image g20: looking for objects failed"):
        find_objects(bad, "gen2", workers=2, progress=False, ids=ids)
    with pytest.raises(GzkernError, match=r"^image 20: looking for objects failed"):
        find_objects(bad, "gen2", workers=2, progress=False)
    with pytest.raises(GzkernError, match=r"^20\.jpg: is gone"):
        find_objects(Failing(images, 20), "gen2", workers=2, progress=False)
    assert children() == before


def test_a_worker_that_dies(images):
    before = children()

    class Deadly(Failing):
        def __getitem__(self, rows):
            if rows[0]:
                for pid in children() - before:
                    os.kill(pid, signal.SIGKILL)
            return self.images[rows]

    with pytest.raises(GzkernError, match=r"images .* has died; take fewer --workers"):
        find_objects(Deadly(images, None), "gen2", workers=1, progress=False)
    assert children() == before


PROGRAM = """
import signal, sys, time
import numpy as np
from gzkern.data.object_search import find_objects
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job ignores it
class Endless:
    shape = (10**6, 64, 64, 3)
    def __len__(self): return 10**6
    def __getitem__(self, rows):
        if rows[0] == 160: print("going", flush=True)
        return np.random.default_rng(0).integers(0, 256, (len(rows), 64, 64, 3), np.uint8)
find_objects(Endless(), "gen2", workers=2, progress=False)
"""


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_no_process_is_left_behind(how):
    """No guard of __main__ is needed either: the program is not run again by its workers."""
    with subprocess.Popen([sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"going\n"
        workers = [int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]
        assert len(workers) == 2
        process.send_signal(how)
        process.wait(timeout=30)
        errors = process.stderr.read().decode()
    deadline = time.monotonic() + 30
    while any(is_running(pid) for pid in workers) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(is_running(pid) for pid in workers)
    assert "KeyboardInterrupt" in errors if how == signal.SIGINT else errors == ""
    assert process.returncode != 0


def is_running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_it_is_called_from_a_thread(images, found):
    got = []
    thread = threading.Thread(target=lambda: got.append(find_objects(images, "gen2", workers=2, progress=False)))
    thread.start()
    thread.join()
    np.testing.assert_array_equal(got[0], found)


def test_a_file_beside_the_user_does_not_stand_in_for_a_module(images, found, tmp_path, monkeypatch):
    (tmp_path / "pickle.py").write_text("raise SystemExit")
    monkeypatch.chdir(tmp_path)
    np.testing.assert_array_equal(find_objects(images, "gen2", workers=1, progress=False), found)
