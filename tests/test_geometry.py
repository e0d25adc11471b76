import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gzkern.augment.geometry import crop_matrices
from gzkern.augment.parameters import Parameters, identity

GOLDEN = json.loads((Path(__file__).parent / "golden" / "geometry_points.json").read_text(encoding="utf-8"))
CENTRE = [211.5, 211.5, 1.0]


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
