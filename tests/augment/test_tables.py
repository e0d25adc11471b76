import numpy as np
import pytest

from gzkern.augment.geometry import crop_matrices
from gzkern.augment.parameters import COLOUR_AXIS, draw, identity
from gzkern.augment.tables import identity_tables, tables
from gzkern.config import AugmentConfig, DataConfig

DATA = DataConfig(crop=22, target=11, scale=2.0)
SIZE = (64, 60)
INDICES = np.arange(40) * 7 % 23
RECENTRING = np.random.default_rng(2).uniform((25, 25, 0.8), (35, 35, 1.2), (23, 3))


def drawn(first, stop, **others):
    return tables(np.arange(first, stop), INDICES[first:stop], 5, AugmentConfig(), DATA, SIZE, **others)


@pytest.mark.parametrize("recentring", [None, RECENTRING])
def test_what_was_drawn(recentring):
    matrices, shifts = drawn(0, 40, recentring=recentring)
    parameters = draw(5, np.arange(40), AugmentConfig())
    objects = None if recentring is None else recentring[INDICES]
    np.testing.assert_array_equal(matrices, crop_matrices(parameters, SIZE, 11, 2.0, objects))
    np.testing.assert_allclose(shifts, parameters.colour[:, None] * COLOUR_AXIS, rtol=1e-7)
    assert (matrices.dtype, shifts.dtype) == (np.float64, np.float32)
    assert shifts.std() > 0


def test_tables_cut_elsewhere_are_the_same():
    whole, parts = drawn(0, 40), zip(drawn(0, 13), drawn(13, 40), strict=True)
    for table, part in zip(whole, parts, strict=True):
        np.testing.assert_array_equal(table, np.concatenate(part))


def test_images_as_they_are():
    matrices, shifts = identity_tables(INDICES, DATA, SIZE)
    np.testing.assert_array_equal(matrices, crop_matrices(identity(40), SIZE, 11, 2.0))
    np.testing.assert_array_equal(shifts, np.zeros((40, 3), np.float32), strict=True)
    recentred, _ = identity_tables(INDICES, DATA, SIZE, RECENTRING)
    np.testing.assert_array_equal(recentred, crop_matrices(identity(40), SIZE, 11, 2.0, RECENTRING[INDICES]))
