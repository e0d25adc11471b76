import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from gzkern.augment.parameters import Parameters, draw, identity
from gzkern.config import AugmentConfig

CONFIG = AugmentConfig()
COUNT = 20_000
NAMES = [field.name for field in dataclasses.fields(Parameters)]


@pytest.fixture(scope="module")
def drawn():
    return draw(11, np.arange(COUNT), CONFIG)


def assert_same(a, b):
    for name in NAMES:
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name), err_msg=name)


def pick(parameters, index):
    return Parameters(*(getattr(parameters, name)[index] for name in NAMES))


@pytest.mark.parametrize(
    ("name", "distribution"),
    [
        ("angle", stats.uniform(0, 360)),
        ("tx", stats.uniform(-4, 8)),
        ("ty", stats.uniform(-4, 8)),
        ("zoom", stats.loguniform(1 / 1.3, 1.3)),
        ("colour", stats.norm(0, 0.5)),
    ],
)
def test_distribution(drawn, name, distribution):
    values = getattr(drawn, name)
    assert values.shape == (COUNT,)
    assert values.dtype == np.float64
    low, high = distribution.support()
    assert ((values >= low) & (values <= high)).all()
    assert stats.kstest(values, distribution.cdf).pvalue > 1e-3
    assert len(np.unique(values)) == COUNT


def test_moments(drawn):
    def z(values, mean, deviation):
        return abs(values.mean() - mean) / (deviation / math.sqrt(COUNT))

    assert z(drawn.angle, 180, 360 / math.sqrt(12)) < 4
    assert z(drawn.tx, 0, 8 / math.sqrt(12)) < 4
    assert z(np.log(drawn.zoom), 0, 2 * math.log(1.3) / math.sqrt(12)) < 4
    assert z(drawn.colour, 0, 0.5) < 4
    assert drawn.colour.std() == pytest.approx(0.5, rel=0.02)
    assert drawn.flip.dtype == np.bool_
    assert z(drawn.flip, 0.5, 0.5) < 4


def test_parameters_and_examples_are_uncorrelated(drawn):
    columns = np.stack([getattr(drawn, name) for name in NAMES])
    correlation = np.corrcoef(np.concatenate([columns[:, 1:], columns[:, :-1]]))
    off_diagonal = correlation[~np.eye(len(correlation), dtype=bool)]
    assert abs(off_diagonal).max() < 5 / math.sqrt(COUNT)


@settings(max_examples=40, deadline=None)
@given(numbers=st.lists(st.integers(0, COUNT - 1), max_size=40))
def test_an_example_does_not_depend_on_its_company(drawn, numbers):
    examples = np.array(numbers, np.int64)
    assert_same(draw(11, examples, CONFIG), pick(drawn, examples))


def test_a_run_of_examples_is_that_of_its_members(drawn):
    for cut in (slice(0, 16), slice(9_999, 10_017), slice(COUNT - 3, COUNT)):
        assert_same(draw(11, np.arange(COUNT)[cut], CONFIG), pick(drawn, cut))


def test_seed_and_number_decide():
    numbers = np.array([0, 1, 25_000_000, 2**40])
    draws = [draw(seed, numbers, CONFIG).angle for seed in (0, 1, 2**63, 2**64 - 1)]
    assert len(np.unique(draws)) == 16


@pytest.mark.parametrize(("seed", "number"), [(-1, 0), (2**64, 0), (0, -1)])
def test_numbers_out_of_range_are_refused(seed, number):
    with pytest.raises((OverflowError, ValueError)):
        draw(seed, np.array([number]), CONFIG)


def test_the_stream_is_pinned():
    """A checkpoint resumed under another release must go on with the same perturbations."""
    words = np.random.Philox(key=[42, 0x6175676D656E74], counter=2 * 7).random_raw(8)
    u = [int(word >> 11) / 2**53 for word in words]
    got = draw(42, np.array([7]), CONFIG)
    assert got.angle[0] == 360 * u[0]
    assert (got.tx[0], got.ty[0]) == (8 * u[1] - 4, 8 * u[2] - 4)
    assert got.flip[0] == (u[3] < 0.5)
    assert got.zoom[0] == pytest.approx(math.exp(math.log(1.3) * (2 * u[4] - 1)), rel=1e-14)
    normal = math.sqrt(-2 * math.log(1 - u[5])) * math.cos(2 * math.pi * u[6])
    assert got.colour[0] == pytest.approx(0.5 * normal, rel=1e-13)


@pytest.mark.parametrize(
    ("off", "names"),
    [
        ({"rotation": 0.0}, ["angle"]),
        ({"translation": 0.0}, ["tx", "ty"]),
        ({"flip": False}, ["flip"]),
        ({"zoom": 1.0}, ["zoom"]),
        ({"colour": 0.0}, ["colour"]),
    ],
)
def test_switching_one_off_leaves_the_others(drawn, off, names):
    got = draw(11, np.arange(100), dataclasses.replace(CONFIG, **off))
    for name in NAMES:
        expected = getattr(identity(100) if name in names else pick(drawn, slice(100)), name)
        np.testing.assert_array_equal(getattr(got, name), expected, err_msg=name)


def test_no_examples():
    for parameters in (draw(0, np.arange(0), CONFIG), identity(0)):
        assert all(len(getattr(parameters, name)) == 0 for name in NAMES)
