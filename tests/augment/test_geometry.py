import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gzkern.augment.geometry import crop_matrices
from gzkern.augment.parameters import Parameters, identity
from gzkern.augment.warp import warp
from gzkern.cpu import viewpoints

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "geometry_points.json").read_text(encoding="utf-8"))
CENTRE = [211.5, 211.5, 1.0]

# What float32 may err by in a sample, in units of half a last place of 1: the vertical mean by its fraction and its
# result, the horizontal one by its fraction, its difference and its result, then the division.
ROUNDING = 6 * 2.0**-25


def parameters_of(angle=0.0, tx=0.0, ty=0.0, flip=False, zoom=1.0):
    return Parameters(*(np.array([value]) for value in (angle, tx, ty, flip, zoom, 0.0)))


@pytest.mark.parametrize("case", GOLDEN["cases"], ids=lambda case: case["name"])
def test_the_original_geometry(case):
    tx, ty = case.get("t", (0.0, 0.0))
    parameters = parameters_of(case.get("rot", 0.0), tx, ty, case.get("flip", False), case.get("zoom", 1.0))
    recentring = np.array([case["pre"]]) if "pre" in case else None
    matrices = crop_matrices(parameters, (424, 424), recentring=recentring)
    assert matrices.shape == (1, 2, 2, 3)
    assert matrices.dtype == np.float64
    np.testing.assert_allclose(matrices[0], case["matrices"], rtol=0, atol=1e-10)


def test_all_cases_are_there():
    names = [case["name"] for case in GOLDEN["cases"]]
    assert len(names) == len(set(names)) == 73


def rotation(degrees):
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])


def shift(x, y):
    return np.array([[1, 0, x], [0, 1, y], [0, 0, 1]])


def magnification(factor, mirror=1.0):
    return np.diag([mirror * factor, factor, 1.0])


@settings(max_examples=100, deadline=None)
@given(
    angle=st.floats(0, 360),
    t=st.tuples(st.floats(-50, 50), st.floats(-50, 50)),
    flip=st.booleans(),
    zoom=st.floats(0.2, 5),
    size=st.tuples(st.integers(2, 900), st.integers(2, 900)),
    target=st.integers(1, 120),
    scale=st.floats(0.5, 6),
    recentring=st.none() | st.tuples(st.floats(0, 900), st.floats(0, 900), st.floats(1 / 1.5, 1.5)),
)
def test_the_matrix_is_the_product_of_its_stages(angle, t, flip, zoom, size, target, scale, recentring):
    height, width = size
    centre, middle = ((width - 1) / 2, (height - 1) / 2), (target - 1) / 2
    x, y, s = recentring or (*centre, 1.0)
    matrices = crop_matrices(
        parameters_of(angle, *t, flip, zoom),
        size,
        target,
        scale,
        np.array([recentring]) if recentring else None,
    )
    for crop_angle, matrix in zip((0, 45), matrices[0], strict=True):
        expected = (
            shift(x, y)
            @ magnification(1 / s)
            @ shift(*t)
            @ rotation(angle)
            @ magnification(1 / zoom, -1.0 if flip else 1.0)
            @ rotation(crop_angle)
            @ magnification(scale)
            @ shift(-middle, -middle)
        )
        np.testing.assert_allclose(matrix, expected[:2], rtol=0, atol=1e-8)


@settings(max_examples=100, deadline=None)
@given(st.floats(0, 360), st.floats(-4, 4), st.floats(-4, 4), st.booleans(), st.floats(1 / 1.3, 1.3))
def test_training_crops_stay_inside_the_image(angle, tx, ty, flip, zoom):
    matrices = crop_matrices(parameters_of(angle, tx, ty, flip, zoom), (424, 424))[0]
    corners = matrices @ np.array([[0, 68, 0, 68], [0, 0, 68, 68], [1, 1, 1, 1]])
    low, high = GOLDEN["extreme_coordinate_without_pysex"]
    assert corners.min() >= low - 1e-9
    assert corners.max() <= high + 1e-9


def test_each_image_has_its_own_matrices():
    many = Parameters(
        np.array([10.0, 200.0]), np.ones(2), np.zeros(2), np.array([True, False]), np.array([1.2, 0.9]), np.zeros(2)
    )
    recentring = np.array([[200.0, 220.0, 1.1], CENTRE])
    both = crop_matrices(many, (424, 424), recentring=recentring)
    np.testing.assert_array_equal(
        both[:1], crop_matrices(parameters_of(10.0, 1.0, 0.0, True, 1.2), (424, 424), recentring=recentring[:1])
    )
    np.testing.assert_array_equal(both[1:], crop_matrices(parameters_of(200.0, 1.0, 0.0, False, 0.9), (424, 424)))


def test_no_images():
    assert crop_matrices(identity(0), (424, 424)).shape == (0, 2, 2, 3)


# A view, such as rot90(mirrored crop, quarter), is a map from the patch's pixels to the crop's, a crop one from its
# pixels to the image's. Their products, computed here, say which views of an image are those of another.

GRIDS = st.fixed_dictionaries(
    {
        "size": st.tuples(st.integers(2, 40), st.integers(2, 40)),
        "target": st.integers(1, 12),
        "scale": st.floats(0.3, 6),
    }
)
SYMMETRIES = st.tuples(st.booleans(), st.integers(0, 3))
"""Of the square, or of an image with its mirror images around it: mirror the columns or not, then turn."""


def noise(height, width):
    return np.random.default_rng((height, width)).integers(0, 256, (height, width, 3), np.uint8)


def transformed(image, symmetry):
    mirrored, quarter = symmetry
    return np.rot90(image[:, ::-1] if mirrored else image, quarter)


def map_of(symmetry, height, width):
    """From the positions in the transformed image to those in the image of this size; as NumPy does it."""
    index = np.stack(np.indices((height, width)), axis=-1)[..., ::-1]  # x, y of each pixel
    moved = transformed(index, symmetry).astype(np.float64)
    origin = moved[0, 0]
    across, down = moved[0, 1] - origin, moved[1, 0] - origin
    return np.vstack([np.stack([across, down, origin], axis=1), [0, 0, 1]])


def view_maps(matrices, target):
    """From the pixels of each view's patch to the positions in the image: (16, 3, 3), for a target of 2 or more."""
    return np.array(
        [
            np.vstack([matrices[view // 8], [0, 0, 1]]) @ map_of((view % 8 >= 4, view % 4), target, target)
            for view in range(16)
        ]
    )


def same_views(maps, others, reach):
    """For each view the one of the others that is the same map, so far as float64 tells; None where one has none."""
    distance = np.abs(maps[:, None] - others[None]).max(axis=(2, 3))
    found = distance.argmin(axis=1)
    return found if (distance.min(axis=1) < 1e-12 * reach).all() and len(set(found)) == 16 else None


def reach_of(grid):
    return sum(grid["size"]) + 2 * grid["target"] * grid["scale"] + 1


def views_of(image, matrices, target):
    """(16, S, S, 3), S being what is left of a crop's side by a corner as in the paper."""
    extent = max(1, 2 * target // 3)
    patches = viewpoints.forward(warp([image], matrices, target), extent)
    return patches.transpose(3, 1, 2, 0)


@settings(max_examples=80, deadline=None)
@given(GRIDS.filter(lambda grid: grid["target"] > 1), SYMMETRIES)
def test_a_turned_or_mirrored_image_has_the_same_views_in_another_order(grid, symmetry):
    image, target = noise(*grid["size"]), grid["target"]
    other = transformed(image, symmetry)
    matrices, others = (crop_matrices(identity(1), i.shape[:2], target, grid["scale"]) for i in (image, other))
    maps = map_of(symmetry, *grid["size"]) @ view_maps(others[0], target)
    order = same_views(maps, view_maps(matrices[0], target), reach_of(grid))
    assert order is not None
    assert (order == np.arange(16)).all() == (symmetry == (False, 0))
    views, expected = views_of(other, others, target), views_of(image, matrices, target)[order]
    np.testing.assert_allclose(views, expected, rtol=0, atol=2 * ROUNDING)


@settings(max_examples=80, deadline=None)
@given(GRIDS.filter(lambda grid: grid["target"] > 1), st.integers(-8, 8), st.booleans())
def test_an_image_turned_by_half_a_right_angle_has_the_same_views_in_another_order(grid, eighths, flip):
    """Both crops change places: the views are those of a regular octagon."""
    image, target = noise(*grid["size"]), grid["target"]
    matrices, others = (
        crop_matrices(p, grid["size"], target, grid["scale"])
        for p in (identity(1), parameters_of(45.0 * eighths, flip=flip))
    )
    order = same_views(view_maps(others[0], target), view_maps(matrices[0], target), reach_of(grid))
    assert order is not None
    assert (order[:8] // 8 == eighths % 2).all()
    views, expected = views_of(image, others, target), views_of(image, matrices, target)[order]
    np.testing.assert_allclose(views, expected, rtol=0, atol=2 * ROUNDING)


@pytest.mark.parametrize("perturbed", [{"angle": 30.0}, {"angle": 45.001}, {"tx": 0.5}, {"ty": -1.0}, {"zoom": 1.01}])
def test_no_other_perturbation_has_the_same_views(perturbed):
    maps, others = (view_maps(crop_matrices(p, (424, 424))[0], 69) for p in (identity(1), parameters_of(**perturbed)))
    assert same_views(others, maps, 1000.0) is None


@settings(max_examples=80, deadline=None)
@given(
    GRIDS,
    SYMMETRIES,
    st.floats(0, 360),
    st.tuples(st.floats(-9, 9), st.floats(-9, 9)),
    st.booleans(),
    st.floats(0.5, 2),
)
def test_an_image_s_turn_or_mirroring_is_one_of_its_parameters(grid, symmetry, angle, t, flip, zoom):
    image, target = noise(*grid["size"]), grid["target"]
    other = transformed(image, symmetry)
    mirrored, quarter = symmetry
    turned = angle + 90.0 * quarter
    moved = map_of(symmetry, *grid["size"])[:2, :2] @ t
    same = parameters_of(-turned if mirrored else turned, *moved, flip != mirrored, zoom)
    got, expected = (
        warp([i], crop_matrices(p, i.shape[:2], target, grid["scale"]), target)
        for i, p in ((other, parameters_of(angle, *t, flip, zoom)), (image, same))
    )
    np.testing.assert_allclose(got, expected, rtol=0, atol=2 * ROUNDING)


EIGHTHS = st.integers(1, 40).map(lambda n: n / 8)
"""Image pixels between samples: with these, float32 has the first crop without an error until it divides by 255."""


@settings(max_examples=60, deadline=None)
@given(GRIDS, EIGHTHS, SYMMETRIES)
def test_flips_and_quarter_turns_are_exact(grid, scale, symmetry):
    image, target = noise(*grid["size"]), grid["target"]
    other = transformed(image, symmetry)
    plain, got = (
        warp([i], crop_matrices(identity(1), i.shape[:2], target, scale), target)[0, 0] for i in (image, other)
    )
    np.testing.assert_array_equal(got, transformed(plain, symmetry))
    flipped = warp([image], crop_matrices(parameters_of(flip=True), grid["size"], target, scale), target)[0, 0]
    np.testing.assert_array_equal(flipped, plain[:, ::-1])


@settings(max_examples=60, deadline=None)
@given(
    inner=st.tuples(st.integers(20, 41), st.integers(20, 41)),
    before=st.tuples(st.integers(0, 9), st.integers(0, 9)),
    after=st.tuples(st.integers(0, 9), st.integers(0, 9)),
    angle=st.floats(0, 360),
    flip=st.booleans(),
)
def test_recentring_undoes_a_translation(inner, before, after, angle, flip):
    """An image somewhere in a larger one, whatever the parity of either; all that is sampled lies in the former."""
    larger = noise(*(np.array(before) + inner + after))
    image = np.ascontiguousarray(larger[tuple(slice(b, b + n) for b, n in zip(before, inner, strict=True))])
    y, x = np.array(before) + (np.array(inner) - 1) / 2
    perturbed = parameters_of(angle, 0.5, -1.0, flip, 1.1)
    got = warp([larger], crop_matrices(perturbed, larger.shape[:2], 7, 1.5, np.array([[x, y, 1.0]])), 7)
    expected = warp([image], crop_matrices(perturbed, inner, 7, 1.5), 7)
    np.testing.assert_allclose(got, expected, rtol=0, atol=2 * ROUNDING)


@settings(max_examples=60, deadline=None)
@given(
    inner=st.tuples(st.integers(20, 60), st.integers(20, 60)),
    margins=st.tuples(st.integers(0, 200), st.integers(0, 200)),
    angle=st.floats(0, 360),
    t=st.tuples(st.floats(-1, 1), st.floats(-1, 1)),
    flip=st.booleans(),
)
def test_the_centre_of_an_image_has_the_same_crops(inner, margins, angle, t, flip):
    """As packs keep it: with the same parity along each axis, all that is sampled being there."""
    whole = noise(*(n + 2 * m for n, m in zip(inner, margins, strict=True)))
    slices = tuple(slice(m, m + n) for n, m in zip(inner, margins, strict=True))
    centre = np.ascontiguousarray(whole[slices])
    perturbed = parameters_of(angle, *t, flip)
    of_whole, of_centre = (crop_matrices(perturbed, i.shape[:2], 8, 1.5) for i in (whole, centre))
    moved = of_centre + np.array([[0, 0, margins[1]], [0, 0, margins[0]]])
    np.testing.assert_allclose(moved, of_whole, rtol=0, atol=4 * np.spacing(max(whole.shape)))
    got, expected = warp([centre], of_centre, 8), warp([whole], of_whole, 8)
    np.testing.assert_allclose(got, expected, rtol=0, atol=2 * ROUNDING)
