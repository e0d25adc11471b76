import json
import math
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from child_processes import children
from data_files import SIDE, TREE, kaggle_folder, real_sample

from gzkern.augment.geometry import crop_matrices
from gzkern.augment.parameters import Parameters
from gzkern.cli.main import main
from gzkern.config import DataConfig
from gzkern.data import object_tables
from gzkern.data import recentring as module
from gzkern.data.images import decode
from gzkern.data.object_search import find_objects
from gzkern.data.objects import COLUMNS, find_object
from gzkern.data.pack import open_pack, pack
from gzkern.data.recentring import recentre, recentring, recentring_of, recentring_of_image
from gzkern.errors import GzkernError, InputError

sep = pytest.importorskip("sep")

DATA = DataConfig()
GEN2 = replace(DATA, recentre="gen2")
GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "geometry_points.json").read_text(encoding="utf-8"))
RNG = np.random.default_rng(11)


def galaxy(x, y, a, b, angle, *, size=(424, 424), peak=160.0, seed=0, noise=1.0, extra=0.0):
    """An image of an elliptical Gaussian (a, b: standard deviations; angle from x to y) on a noisy sky, in green."""
    rows, columns = np.indices(size)
    u = (columns - x) * math.cos(angle) + (rows - y) * math.sin(angle)
    v = (rows - y) * math.cos(angle) - (columns - x) * math.sin(angle)
    green = 20 + peak * np.exp(-((u / a) ** 2 + (v / b) ** 2) / 2) + extra
    green = green + noise * np.random.default_rng(seed).standard_normal(size)
    image = np.random.default_rng(seed + 1).integers(0, 256, (*size, 3)).astype(np.uint8)  # red and blue mislead
    image[..., 1] = np.clip(np.rint(green), 0, 255)
    return image


def assert_turned(angle, expected, atol):
    """Two directions of an ellipse's axis are equal."""
    assert abs((angle - expected + math.pi / 2) % math.pi - math.pi / 2) < atol


@pytest.mark.parametrize("threshold_set", ["gen1", "gen2"])
@pytest.mark.parametrize("angle", [0.3, 1.2, -0.5])
def test_a_drawn_galaxy_is_found_where_it_is(threshold_set, angle):
    """Moments of an ellipse cut off at a threshold: those of the truncated Gaussian, in closed form."""
    image = galaxy(203.25, 230.5, 30, 15, angle, noise=0.7)
    x, y, a, b, theta, _ = find_object(image, threshold_set)
    assert (x, y) == pytest.approx((203.25, 230.5), abs=0.1)
    assert_turned(theta, angle, 0.01)
    light = image[..., 1] / np.float32(255)
    edge = {"gen1": 10, "gen2": 2}[threshold_set] * sep.Background(light).globalrms * 255 / 160
    # Within radius² = −2 ln(edge): variance along each axis, in units of the whole Gaussian's.
    variance = 1 + edge * math.log(edge) / (1 - edge)
    assert a == pytest.approx(30 * math.sqrt(variance), rel=0.03)
    assert b == pytest.approx(15 * math.sqrt(variance), rel=0.03)


def test_x_is_the_column_and_counts_from_zero():
    image = galaxy(150, 260, 12, 12, 0)
    assert find_object(image, "gen2")[:2] == pytest.approx((150, 260), abs=0.1)
    mirrored = np.ascontiguousarray(image[:, ::-1])
    assert find_object(mirrored, "gen2")[:2] == pytest.approx((423 - 150, 260), abs=0.1)


def petrosian_in_a_loop(light, members, number, found):
    """PETRO_RADIUS, pixel by pixel and annulus by annulus."""
    last = None
    for k in range(1, 17):
        inner, middle, outer = 0.3 * k, 0.33 * k, 0.36 * k
        sums = dict.fromkeys(("annulus", "n_annulus", "disc", "n_disc"), 0.0)
        for (row, column), value in np.ndenumerate(light):
            if members[row, column] not in (0, number):
                continue
            dx, dy = column - found["x"], row - found["y"]
            r = math.sqrt(found["cxx"] * dx * dx + found["cyy"] * dy * dy + found["cxy"] * dx * dy)
            if inner <= r < outer:
                sums["annulus"], sums["n_annulus"] = sums["annulus"] + value, sums["n_annulus"] + 1
            if r < middle:
                sums["disc"], sums["n_disc"] = sums["disc"] + value, sums["n_disc"] + 1
        last = middle
        counted = sums["n_annulus"] and sums["n_disc"]
        if counted and sums["annulus"] / sums["n_annulus"] < 0.2 * sums["disc"] / sums["n_disc"]:
            break
    return max(2 * last, 3.5)


@pytest.mark.parametrize("case", [(30, 28, 9, 6, 0.4), (5, 7, 9, 3, -1.0), (40, 20, 25, 20, 0.1)])
def test_the_petrosian_radius_is_that_of_its_definition(case):
    from gzkern.data.objects import _petrosian_radius

    image = galaxy(*case, size=(48, 60))
    light = image[..., 1].astype(np.float32) / 255 - np.float32(20 / 255)
    objects, members = sep.extract(light, 0.03, segmentation_map=True)
    assert len(objects) > 0
    for index, found in enumerate(objects[:4]):
        expected = petrosian_in_a_loop(light, members, index + 1, found)
        assert _petrosian_radius(light, members, index + 1, found) == pytest.approx(expected, abs=1e-9)


def test_a_neighbour_is_not_counted():
    alone = find_object(galaxy(211, 212, 14, 12, 0.2), "gen1")
    rows, columns = np.indices((424, 424))
    star = 200 * np.exp(-((columns - 285) ** 2 + (rows - 212) ** 2) / (2 * 4**2))
    beside = find_object(galaxy(211, 212, 14, 12, 0.2, extra=star), "gen1")
    np.testing.assert_allclose(beside[:4], alone[:4], rtol=0.02)
    assert beside[5] == pytest.approx(alone[5], abs=0.67)


def test_the_salient_object_is_large_and_central():
    rows, columns = np.indices((424, 424))
    larger = 160 * np.exp(-((columns - 320) ** 2 + (rows - 110) ** 2) / (2 * 25**2))
    assert find_object(galaxy(205, 215, 12, 10, 0, extra=larger), "gen1")[:2] == pytest.approx((205, 215), abs=0.3)
    found = find_object(galaxy(205, 215, 12, 10, 0, extra=larger, peak=0), "gen1")
    assert found[:2] == pytest.approx((320, 110), abs=0.3)


@pytest.mark.parametrize("factor", [0.5, 2])
def test_lengths_are_in_proportion_to_the_image(factor):
    """The same scene at another scale: all lengths follow, and so does which object is salient."""
    rows, columns = np.indices((int(424 * factor),) * 2) / factor

    def scene(size, unit):
        return galaxy(150 * unit, 200 * unit, 20 * unit, 12 * unit, 0.7, size=size, extra=other, noise=0.5)

    other = 160 * np.exp(-((columns - 330) ** 2 + (rows - 330) ** 2) / (2 * 28**2))
    scaled = find_object(scene((int(424 * factor),) * 2, factor), "gen1")
    rows, columns = np.indices((424, 424))
    other = 160 * np.exp(-((columns - 330) ** 2 + (rows - 330) ** 2) / (2 * 28**2))
    whole = find_object(scene((424, 424), 1), "gen1")
    np.testing.assert_allclose(scaled[:4] / factor, whole[:4], rtol=0.02)


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((424, 424, 3), np.uint8),
        np.full((48, 60, 3), 255, np.uint8),
        np.zeros((1, 1, 3), np.uint8),
        np.random.default_rng(0).integers(0, 256, (424, 424, 3), np.uint8),
        np.eye(424, dtype=np.uint8)[..., np.newaxis].repeat(3, 2),
    ],
    ids=["black", "white", "one pixel", "noise", "diagonal"],
)
def test_nothing_found_is_the_centre(image):
    found = find_object(image, "gen1")
    middle = [(image.shape[1] - 1) / 2, (image.shape[0] - 1) / 2]
    np.testing.assert_array_equal(found, [*middle, *[math.nan] * 4])
    np.testing.assert_array_equal(recentring(found[np.newaxis], DATA), [[*middle, 1.0]])


@pytest.mark.parametrize("size", [(20, 31), (40, 700), (900, 700), (2, 2)])
def test_any_size(size):
    image = galaxy((size[1] - 1) / 2, (size[0] - 1) / 2, min(size) / 12, min(size) / 14, 0.2, size=size, noise=0.6)
    found = find_object(image, "gen2")
    assert np.isfinite(found[:2]).all()
    if min(size) >= 20:
        assert found[:2] == pytest.approx(((size[1] - 1) / 2, (size[0] - 1) / 2), abs=1)


def test_an_object_of_all_pixels_and_one_of_very_many_parts():
    """The limits of sep are no limits here."""
    stack, limit = sep.get_extract_pixstack(), sep.get_sub_object_limit()
    image = galaxy(80, 70, 30, 30, 0, size=(140, 160), seed=3, noise=25)
    try:
        sep.set_extract_pixstack(1000)
        expected = find_object(image, "gen2")
        assert sep.get_extract_pixstack() > 140 * 160
        sep.set_sub_object_limit(3)
        with pytest.raises(Exception, match="deblending"):
            sep.extract(np.ascontiguousarray(image[..., 1], np.float32), 40.0)
        undivided = find_object(image, "gen2")
    finally:
        sep.set_extract_pixstack(stack)
        sep.set_sub_object_limit(limit)
    np.testing.assert_allclose(undivided[:2], expected[:2], atol=5)


def test_the_formula():
    """160 / (petro · a), clipped (ORIGINAL: 1.5 either way), 1 without an object."""
    nan = math.nan
    objects = np.array([
        [210.0, 215.0, 20.0, 9.0, 0.1, 8.0],
        [0.0, 1.0, 100.0, 9.0, 0.1, 5.0],
        [2.0, 3.0, 10.0, 9.0, 0.1, 4.0],
        [211.5, 211.5, nan, nan, nan, nan],
        [5.0, 6.0, 40.0, 9.0, 0.1, 5.0],
    ])  # fmt: skip
    s = np.array([1.0, 1 / 1.5, 1.5, 1.0, 0.8])
    np.testing.assert_array_equal(recentring(objects, DATA), np.column_stack([objects[:, :2], s]))
    half = replace(DATA, crop=104, target=69, scale=1.5)
    np.testing.assert_array_equal(recentring(objects, half)[:, 2], [1 / 1.5, 1 / 1.5, 1.5, 1.0, 1 / 1.5])
    assert recentring(objects[:0], DATA).shape == (0, 3)


@pytest.mark.parametrize("case", [c for c in GOLDEN["cases"] if "pre" in c], ids=lambda case: case["name"])
def test_what_it_returns_is_what_crop_matrices_takes(case):
    """From an object to the original's matrices (its own s, which is 160 / (petro · a), given back as a size)."""
    x, y, s = case["pre"]
    tx, ty = case["t"]
    parameters = Parameters(*(np.array([v]) for v in (case["rot"], tx, ty, case["flip"], case["zoom"], 0.0)))
    objects = np.array([[x, y, 40.0, 20.0, 0.0, 160 / (40 * s)]])
    matrices = crop_matrices(parameters, (424, 424), recentring=recentring(objects, DATA))
    np.testing.assert_allclose(matrices[0], case["matrices"], rtol=0, atol=1e-9)


# Many images


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


# What a pack stores


@pytest.fixture
def root(tmp_path):
    return kaggle_folder(tmp_path / "data")


@pytest.fixture
def packed(root, tmp_path):
    out = tmp_path / "pack"
    pack(root / "images_training_rev1", root / "training_solutions_rev1.csv", out, TREE, smallest=SIDE, progress=False)
    return out


def forbidden(*arguments, **options):
    raise AssertionError("found anew")


@pytest.mark.parametrize("threshold_set", ["gen1", "gen2"])
def test_a_pack_keeps_what_was_found(packed, threshold_set, monkeypatch):
    data = replace(DATA, recentre=threshold_set)
    dataset = open_pack(packed)
    objects = find_objects(dataset.images, threshold_set, progress=False)
    first = recentring_of(dataset, data, progress=False)
    np.testing.assert_array_equal(first, recentring(objects, data))
    lines = (packed / f"objects_{threshold_set}.csv").read_text().splitlines()
    digest = json.loads((packed / "pack.json").read_text())["files"]["images.npy"]["sha256"]
    assert lines[0].startswith(f"# set {threshold_set}; images.npy sha256 {digest}; gzkern ")
    assert lines[0].endswith(f"; sep {sep.__version__}")
    assert lines[1] == "id,x,y,a,b,theta,petro"
    assert [line.split(",")[0] for line in lines[2:]] == list(dataset.ids)
    np.testing.assert_array_equal([[float(c) for c in line.split(",")[1:]] for line in lines[2:]], objects)
    monkeypatch.setattr(module, "find_objects", forbidden)
    np.testing.assert_array_equal(recentring_of(open_pack(packed, verify=True), data, progress=False), first)


def test_without_sep_what_is_stored_serves(packed, monkeypatch):
    first = recentring_of(open_pack(packed), GEN2, progress=False)
    monkeypatch.setitem(sys.modules, "sep", None)
    np.testing.assert_array_equal(recentring_of(open_pack(packed), GEN2, progress=False), first)
    message = r'^recentring needs sep .*; run: pip install "gzkern\[astro\]", or run gzkern recentre PACK'
    with pytest.raises(InputError, match=message):
        recentring_of(open_pack(packed), replace(DATA, recentre="gen1"), progress=False)
    with pytest.raises(InputError, match=message):
        recentring_of_image(np.zeros((48, 48, 3), np.uint8), GEN2)
    with pytest.raises(InputError, match=message):
        recentre(packed)


def test_no_recentring(packed):
    assert recentring_of(open_pack(packed), DATA) is None
    assert recentring_of_image(np.zeros((48, 48, 3), np.uint8), DATA) is None
    assert not list(packed.glob("objects*"))


def test_one_image_and_a_folder_are_recentred_as_the_pack_is(packed):
    dataset = open_pack(packed)
    expected = recentring_of(dataset, GEN2, progress=False)
    got = np.concatenate([recentring_of_image(image, GEN2) for image in dataset.images])
    np.testing.assert_array_equal(got, expected)
    folder = replace(dataset, path=None, images=np.array(dataset.images))
    np.testing.assert_array_equal(recentring_of(folder, GEN2, progress=False), expected)


def test_a_pack_that_cannot_be_written(packed, monkeypatch, capsys):
    def full(path, content):
        raise GzkernError(f"{path}: not written (no space left on device)")

    monkeypatch.setattr(object_tables, "write_atomically", full)
    expected = recentring(find_objects(open_pack(packed).images, "gen2", progress=False), GEN2)
    capsys.readouterr()
    np.testing.assert_array_equal(recentring_of(open_pack(packed), GEN2, progress=True), expected)
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("gzkern:")]
    assert said == [
        f"gzkern: {packed}/objects_gen2.csv: not written (no space left on device); "
        "the objects serve this run and are found anew by the next"
    ]
    recentring_of(open_pack(packed), GEN2, progress=False)
    assert capsys.readouterr().err == ""


def test_what_is_not_sound_is_refused(packed, root, tmp_path):
    recentring_of(open_pack(packed), GEN2, progress=False)
    path = packed / "objects_gen2.csv"
    sound = path.read_text()
    lines = sound.splitlines()
    cells = lines[4].split(",")

    def refused(text, message, mend="; run"):
        path.write_text(text)
        mend += f" gzkern recentre {packed} --set gen2 --overwrite$"
        with pytest.raises(InputError, match=f"^{path}: {message}{mend}"):
            recentring_of(open_pack(packed), GEN2, progress=False)

    def with_row(*row):
        return "\n".join([*lines[:4], ",".join(row), *lines[5:]]) + "\n"

    refused("", "does not begin with a line on set, images and versions")
    refused("\n".join(lines[1:]) + "\n", "does not begin with a line on set, images and versions")
    refused(sound.replace("# set gen2", "# set gen1"), "holds the objects of set gen1, expected gen2")
    refused(
        sound[: sound.index("sha256 ") + 7] + "0" * 64 + sound[sound.index("; gzkern") :], "belongs to another pack"
    )
    refused(sound.replace("petro", "kron"), "its columns are id, x, y, a, b, theta, kron, expected id, x, y, a, .*")
    refused(lines[0] + "\n", "its columns are missing, expected id, .*")
    refused(sound[:-1], "was cut short")
    refused(sound[: len(sound) // 2], "was cut short")
    refused("\n".join(lines[:-3]) + "\n", "was cut short: 9 rows of 12")
    refused(sound + lines[-1] + "\n", "row 15: one more than the 12 images of the pack")
    refused(with_row("999", *cells[1:]), f"row 5: id 999, expected {cells[0]} as in the pack")
    refused("\n".join([*lines[:2], *lines[3:]]) + "\n", "row 3: id 102, expected 101 as in the pack")
    refused(with_row(*cells[:-1]), "row 5: 6 cells, expected 7")
    refused(with_row(*cells[:-1], "5,5"), "row 5: 8 cells, expected 7")
    inside, above = "from -0.5 to 47.5, in the image", "above 0, or nan"
    for column, bad, expected in (
        *(("x", "nan", inside), ("x", "inf", inside), ("x", "47.6", inside), ("y", "-0.6", inside), ("y", "", inside)),
        *(("theta", "inf", ", or nan"), ("theta", "north", ", or nan")),
        *(("a", "0", above), ("b", "-1", above), ("petro", "inf", above), ("a", "none", above)),
    ):
        row = dict(zip(("id", *COLUMNS), cells, strict=True)) | {column: bad}
        message = f"row 5, column {column}: '{bad}', expected a number ?{expected}"
        refused(with_row(*row.values()), message, "; correct it, or find all anew by")
    path.write_bytes(b"\x00\xff")
    with pytest.raises(InputError, match="not a text file"):
        recentring_of(open_pack(packed), GEN2, progress=False)
    path.write_text(with_row(cells[0], "20.5", "21.25", "nan", "nan", "nan", "nan"))  # mended by hand
    np.testing.assert_array_equal(recentring_of(open_pack(packed), GEN2, progress=False)[2], [20.5, 21.25, 1.0])


def test_another_pack_of_the_same_ids_is_told(packed, root, tmp_path):
    recentring_of(open_pack(packed), GEN2, progress=False)
    (root / "images_training_rev1/101.jpg").write_bytes((root / "images_training_rev1/102.jpg").read_bytes())
    other = tmp_path / "other"
    pack(root / "images_training_rev1", None, other, TREE, smallest=SIDE, progress=False)
    (other / "objects_gen2.csv").write_bytes((packed / "objects_gen2.csv").read_bytes())
    with pytest.raises(InputError, match="belongs to another pack"):
        recentring_of(open_pack(other), GEN2, progress=False)


def test_cropped_packs_are_refused(root, tmp_path):
    out = tmp_path / "cropped"
    pack(root / "images_training_rev1", None, out, TREE, smallest=24, crop=30, progress=False)
    message = (
        rf"^{out}: holds the central 30×30 pixels of its images, .* whole ones; run gzkern pack again without --crop"
    )
    with pytest.raises(InputError, match=message):
        recentring_of(open_pack(out), GEN2)
    with pytest.raises(InputError, match=message):
        recentre(out)


# The command


def test_recentre_ahead(packed, capsys):
    assert main(["recentre", str(packed), "--workers", "2"]) == 0
    missing = int(np.isnan(find_objects(open_pack(packed).images, "gen1", progress=False)[:, 2]).sum())
    out = capsys.readouterr().out.splitlines()
    assert out[0] == f"wrote {packed}/objects_gen1.csv: 12 images, {missing} of them without an object"
    assert out[1].startswith(f"wrote {packed}/objects_gen2.csv: 12 images, ")
    stored = (packed / "objects_gen2.csv").read_bytes()
    assert main(["recentre", str(packed), "--set", "gen2"]) == 2
    assert capsys.readouterr().err.splitlines()[-1] == (
        f"gzkern: {packed}/objects_gen2.csv: already exists; pass --overwrite to find the objects anew"
    )
    (packed / "objects_gen1.csv").unlink()
    assert main(["recentre", str(packed)]) == 0  # what is missing
    assert capsys.readouterr().out.splitlines() == out[:1]
    (packed / "objects_gen2.csv").write_text("rubbish")
    (packed / "objects_gen1.csv").unlink()
    assert main(["recentre", str(packed), "--set", "gen2", "--overwrite", "--workers", "1"]) == 0
    assert (packed / "objects_gen2.csv").read_bytes() == stored
    assert not (packed / "objects_gen1.csv").exists()


@pytest.mark.parametrize("workers", ["0", "-1"])
def test_recentre_with_bad_arguments(packed, capsys, workers):
    assert main(["recentre", str(packed), "--workers", workers]) == 2
    assert f"--workers {workers}: expected 1 to 256 processes" in capsys.readouterr().err
    assert not list(packed.glob("*objects*"))


def test_recentre_what_is_no_pack(tmp_path, capsys):
    assert main(["recentre", str(tmp_path / "none")]) == 2
    assert "is not a pack" in capsys.readouterr().err


def test_an_interrupted_command_leaves_nothing(packed, monkeypatch, capsys):
    monkeypatch.setattr(module, "find_objects", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
    assert main(["recentre", str(packed)]) == 1
    assert "interrupted" in capsys.readouterr().err
    assert not list(packed.glob("*objects*"))
    assert not list(packed.glob(".*objects*"))


# The comparison with what was published


def test_the_table_of_the_comparison():
    from benchmarks.recentring import statistics, table

    sizes = np.array([400.0, 200.0, 160.0, 128.0, 80.0, np.nan])
    objects = np.column_stack([np.arange(6.0), np.arange(6.0) + 10, sizes / 5, sizes, sizes, np.full(6, 5.0)])
    x, y, size, *s, below, above, missing = statistics(objects)
    assert (x, y, size, s[2]) == (2.5, 12.5, 160, 1.0)
    assert (below, above, missing) == pytest.approx((100 / 6,) * 3)
    lines = table("gen2", {"these": objects})
    assert lines[:2] == ["| gen2 | published | these |", "|---|---|---|"]
    assert lines[2].startswith("| median x | 213.2 | 2.50 ± ")
    assert len(lines) == 2 + 11


# Real galaxies


@pytest.mark.skipif(real_sample() is None, reason="GZKERN_SAMPLE names no folder of real galaxies")
def test_real_galaxies_are_measured_as_the_original_measured_them():
    """Medians within three standard errors of the published, of all galaxies; its centres less one pixel."""
    folder = real_sample() / "images_test_rev1"
    if not folder.is_dir():
        pytest.skip("the sample has no images of the Challenge's test set")
    images = np.stack([decode(path, smallest=207) for path in sorted(folder.glob("*.jpg"))[:120]])
    objects = find_objects(images, "gen1", progress=False)
    assert not np.isnan(objects).any()
    median = np.median(objects[:, 0]), np.median(objects[:, 1]), np.median(objects[:, 5] * objects[:, 2])
    for got, published, error in zip(median, (213.21, 213.28, 170.8), (0.35, 0.35, 4.0), strict=True):
        assert abs(got - published) < 3 * error
