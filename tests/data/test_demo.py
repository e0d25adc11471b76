"""The synthetic demo set: its files, its labels, its pictures."""

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gzkern.data.demo import draw_demo_set, draw_example
from gzkern.data.demo.camera import Exposure, draw_exposure, photograph, stretch
from gzkern.data.demo.light import galaxy_light
from gzkern.data.demo.morphology import KIND_SHARES, Galaxy, draw_galaxy
from gzkern.data.demo.profiles import Grid, from_axes, sersic
from gzkern.data.demo.votes import answer_probabilities, draw_fractions
from gzkern.decision_trees.tree import load_tree
from gzkern.errors import InputError

TREE = load_tree()
CLEAR = Exposure(n=200, seeing=1.3, surface_brightness=80.0, sky=(0.5, 0.5, 0.5))
SPIRAL = Galaxy(
    "disk",
    seed=3,
    half_light=33,
    axis_ratio=0.8,
    angle=0.0,
    age=0.3,
    bulge=0.15,
    arms=2,
    pitch=0.35,
    contrast=0.4,
    flocculence=0.2,
)
EDGE_ON = Galaxy("edge-on", seed=4, half_light=36, axis_ratio=0.18, angle=0.6, age=0.5, bulge=0.3)
ELLIPTICAL = Galaxy("elliptical", seed=5, half_light=26, axis_ratio=0.97, angle=0.0, age=0.9)


def read_files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def read_rows(folder: Path) -> list[list[str]]:
    with (folder / "training_solutions_rev1.csv").open(newline="") as file:
        return list(csv.reader(file))


def crowd_mean(galaxy: Galaxy, exposure: Exposure = CLEAR, crowds: int = 200) -> dict[str, float]:
    rng = np.random.default_rng(0)
    answers = answer_probabilities(galaxy, exposure)
    mean = np.mean([draw_fractions(answers, TREE, rng) for _ in range(crowds)], axis=0)
    return {name.removeprefix("Class"): value for name, value in zip(TREE.columns, mean, strict=True)}


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("demo") / "set"
    draw_demo_set(out, 8, seed=7)
    return out


def test_layout_is_the_challenges(demo: Path) -> None:
    header, *rows = read_rows(demo)
    assert header == ["GalaxyID", *TREE.columns]
    ids = [int(row[0]) for row in rows]
    assert ids == sorted(set(ids))
    assert all(len(value.split(".")[1]) == 6 for row in rows for value in row[1:])
    images = sorted((demo / "images_training_rev1").iterdir())
    assert [p.name for p in images] == [f"{i}.jpg" for i in ids]
    for path in images:
        with Image.open(path) as image:
            assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (424, 424))


def test_a_set_begins_with_the_smaller_one_whatever_the_workers(demo: Path, tmp_path: Path) -> None:
    steps: list[int] = []
    draw_demo_set(tmp_path / "larger", 11, seed=7, workers=3, progress=steps.append)
    smaller, larger = read_files(demo), read_files(tmp_path / "larger")
    assert steps == [1] * 11
    images = [name for name in smaller if name.endswith(".jpg")]
    assert [larger[name] for name in images] == [smaller[name] for name in images]
    assert read_rows(tmp_path / "larger")[:9] == read_rows(demo)


def test_seed_and_index_change_the_example() -> None:
    picture, fractions = draw_example(0, seed=1)
    again, same = draw_example(0, seed=1)
    assert np.array_equal(picture, again)
    assert np.array_equal(fractions, same)
    assert not np.array_equal(picture, draw_example(1, seed=1)[0])
    assert not np.array_equal(picture, draw_example(0, seed=2)[0])


def test_written_labels_obey_the_tree_and_vary(demo: Path) -> None:
    labels = np.array([row[1:] for row in read_rows(demo)[1:]], float)
    assert labels.min() >= 0
    assert labels.max() <= 1
    for question in TREE.questions:
        parent = 1.0 if question.parent is None else labels[:, question.parent]
        np.testing.assert_allclose(labels[:, question.columns].sum(axis=1), parent, atol=1e-5)
    assert labels[:, 0].std() > 0.1


def test_every_answer_is_given_by_some_crowd() -> None:
    rng = np.random.default_rng(0)
    drawn = [draw_fractions(answer_probabilities(draw_galaxy(rng), draw_exposure(rng)), TREE, rng) for _ in range(1500)]
    best = dict(zip(TREE.columns, np.max(drawn, axis=0), strict=True))
    assert {name: value for name, value in best.items() if value < 0.15} == {}


@pytest.mark.parametrize("kind", KIND_SHARES)
def test_probabilities_cover_each_question(kind: str) -> None:
    rng = np.random.default_rng(1)
    for _ in range(30):
        answers = answer_probabilities(draw_galaxy(rng, kind), draw_exposure(rng))
        for question in TREE.questions:
            assert answers[question.id].shape == (len(question.answers),)
            assert answers[question.id].min() >= 0
            assert answers[question.id].sum() == pytest.approx(1)


def test_labels_follow_the_shape() -> None:
    edge_on, spiral, elliptical = crowd_mean(EDGE_ON), crowd_mean(SPIRAL), crowd_mean(ELLIPTICAL)
    assert edge_on["2.1"] > 0.7
    assert edge_on["9.1"] > 3 * edge_on["9.3"]
    assert crowd_mean(replace(EDGE_ON, bulge=0.0))["9.3"] > 0.5
    assert spiral["4.1"] > 0.5
    assert max((f"11.{arms}" for arms in range(1, 7)), key=spiral.__getitem__) == "11.2"
    assert elliptical["7.1"] > 0.6
    assert crowd_mean(replace(ELLIPTICAL, axis_ratio=0.33))["7.3"] > 0.5
    assert crowd_mean(replace(SPIRAL, bar=0.2))["3.1"] > crowd_mean(SPIRAL)["3.1"] + 0.3
    assert crowd_mean(replace(SPIRAL, pitch=np.radians(11)))["10.1"] > spiral["10.1"] + 0.2
    assert crowd_mean(replace(SPIRAL, ring=1.0))["8.1"] > 0.5
    assert crowd_mean(draw_galaxy(np.random.default_rng(0), "merger"))["8.6"] > 0.3


def test_blurred_and_faint_galaxies_raise_doubt() -> None:
    blurred = replace(CLEAR, n=80, seeing=3.0, surface_brightness=8.0)
    assert crowd_mean(SPIRAL, blurred)["4.1"] < crowd_mean(SPIRAL)["4.1"] - 0.2


@pytest.mark.parametrize("kind", KIND_SHARES)
def test_every_kind_stands_out_at_the_centre(kind: str) -> None:
    rng = np.random.default_rng(2)
    for _ in range(3):
        galaxy = draw_galaxy(rng, kind)
        light = galaxy_light(galaxy, Grid(120))
        assert light.shape == (3, 120, 120)
        assert np.isfinite(light).all()
        assert light.min() >= 0
        picture = photograph(galaxy, replace(CLEAR, n=120), rng)
        assert (picture.shape, picture.dtype) == ((424, 424, 3), np.uint8)
        assert picture[197:227, 197:227].mean() > np.median(picture) + 30


@pytest.mark.parametrize("galaxy", [SPIRAL, replace(SPIRAL, bar=0.2, disturbance=0.6)])
def test_the_other_handedness_is_the_mirror_image(galaxy: Galaxy) -> None:
    light = galaxy_light(galaxy, Grid(120))
    mirrored = galaxy_light(replace(galaxy, handedness=-1), Grid(120))
    peak = light.max()
    np.testing.assert_allclose(mirrored, light[:, ::-1], atol=1e-4 * peak)
    assert np.abs(mirrored - light).max() > 0.01 * peak


def test_positive_handedness_winds_with_the_angle() -> None:
    """Along an arm the angle from x towards y grows with the radius: the phase of the m = 2 mode rises."""
    light = galaxy_light(replace(SPIRAL, axis_ratio=1.0, bulge=0.0), Grid(212)).mean(axis=0)
    x, y = Grid(212).rotated(0.0)
    radius, azimuth = np.hypot(x, y), np.arctan2(y, x)
    scale = SPIRAL.half_light / 1.678
    phases = []
    for inner in np.arange(1.0, 2.4, 0.2) * scale:
        annulus = (radius >= inner) & (radius < inner + 0.2 * scale)
        phases.append(np.angle(np.sum(light[annulus] * np.exp(2j * azimuth[annulus]))))
    turned = np.diff(np.unwrap(phases)).sum()
    expected = 2 / np.tan(SPIRAL.pitch) * np.log(2.2 / 1.0)
    assert turned == pytest.approx(expected, rel=0.35)


def test_axis_ratio_and_angle_are_those_of_the_picture() -> None:
    light = galaxy_light(replace(ELLIPTICAL, axis_ratio=0.5, angle=0.5, sersic=1.0), Grid(212)).mean(axis=0)
    along, across = Grid(212).rotated(0.5)
    assert (light * along * across).sum() / (light * along**2).sum() == pytest.approx(0, abs=0.01)
    ratio = np.sqrt((light * across**2).sum() / (light * along**2).sum())
    assert ratio == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("index", [1.0, 2.5, 4.0])
def test_half_the_light_lies_within_the_half_light_radius(index: float) -> None:
    x, y = Grid(424).rotated(0.0)
    radius = np.hypot(x, y)
    light = sersic(radius, 10.0, index, core=0.5)
    assert light[radius < 10].sum() == pytest.approx(0.5, abs=0.06)


def test_dust_darkens_and_reddens() -> None:
    clear = galaxy_light(EDGE_ON, Grid(212)).sum(axis=(1, 2))
    dusty = galaxy_light(replace(EDGE_ON, dust=1.0), Grid(212)).sum(axis=(1, 2))
    passed = dusty / clear
    assert 0.9 > passed[0] > passed[1] > passed[2] > 0.1


def test_sources_land_where_they_are_put() -> None:
    grid = Grid(53)
    light = grid.deposit(np.array([20.0, 5000.0]), np.array([-36.0, 0.0]), np.array([2.0, 9.0]))
    expected = np.zeros((53, 53))
    expected[21:23, 28:30] = 0.5  # 36 px up and 20 px right of pixel (26, 26), 8 px each; the second is outside
    np.testing.assert_allclose(light, expected, atol=1e-6)


def test_axes_turn_from_x_towards_y_and_back() -> None:
    along, across = Grid(5).rotated(0.4)
    x, y = from_axes(along, across, 0.4)
    columns = np.broadcast_to(np.arange(-2, 3) * 84.8, (5, 5))
    np.testing.assert_allclose(x, columns, atol=1e-3)
    np.testing.assert_allclose(y, columns.T, atol=1e-3)
    assert along[4, 4] > across[4, 4]  # down and to the right is nearer to the axis than to its normal


def test_stretch_keeps_the_hue_of_what_is_too_bright() -> None:
    light = np.array([4.0, 2.0, 1.0]).reshape(3, 1, 1) * np.array([1e-3, 1.0, 100.0, 1e4])
    picture = stretch(light)[0].astype(float)
    assert (np.diff(picture[:, 0]) >= 0).all()
    assert picture[-1].tolist() == pytest.approx([255, 128, 64], abs=1)
    assert picture[2, 1] / picture[2, 0] == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize(("count", "seed", "workers"), [(0, 1, 1), (-3, 1, 1), (1, -1, 1), (1, 1, 0)])
def test_numbers_out_of_range_are_refused(tmp_path: Path, count: int, seed: int, workers: int) -> None:
    with pytest.raises(InputError, match="at least"):
        draw_demo_set(tmp_path / "out", count, seed, workers=workers)
    assert list(tmp_path.iterdir()) == []


def test_a_directory_with_something_in_it_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("kept")
    with pytest.raises(InputError, match="not empty"):
        draw_demo_set(tmp_path, 1, seed=1)
    assert read_files(tmp_path) == {"mine.txt": b"kept"}


def test_an_interrupted_set_leaves_nothing(tmp_path: Path) -> None:
    def interrupt(drawn: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        draw_demo_set(tmp_path / "out", 50, seed=1, progress=interrupt)
    assert list(tmp_path.iterdir()) == []


def test_an_empty_directory_is_filled(tmp_path: Path) -> None:
    draw_demo_set(tmp_path, 1, seed=1)
    assert len(read_files(tmp_path)) == 2
