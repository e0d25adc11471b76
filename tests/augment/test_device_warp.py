"""The warp and the staging buffer on devices that run kernels: against the CPU's, and what the bindings refuse."""

import re

import numpy as np
import pytest

from gzkern.augment.tables import tables
from gzkern.augment.warp import warp_reference
from gzkern.config import AugmentConfig, DataConfig
from gzkern.cuda import viewpoints, warp
from gzkern.cuda.gather_batch import gather
from gzkern.errors import InputError

DATA = DataConfig(crop=22, target=11, scale=2.0)
SIZE = (40, 31)
B, SLOTS = 5, 3


def batch(step=0, images=None):
    """Arguments of a warp, the tables of three steps in a staging buffer."""
    if images is None:
        images = np.random.default_rng(0).integers(0, 256, (7, *SIZE, 3), np.uint8)
    examples = np.arange(SLOTS * B)
    indices = examples * 3 % len(images)
    matrices, shifts = tables(examples, indices, 5, AugmentConfig(translation=30.0), DATA, images.shape[1:3])
    return {
        "images": images,
        "indices": indices.reshape(SLOTS, B),
        "matrices": matrices.reshape(SLOTS, B, 2, 2, 3),
        "shifts": shifts.reshape(SLOTS, B, 3),
        "step": np.array([step]),
    }


@pytest.mark.gxx
@pytest.mark.parametrize("step", [0, 1, 2, 3, 3 * 2**40 + 1])
def test_the_warp_of_the_cpu(step):
    pytest.importorskip("numba", exc_type=ImportError)
    from gzkern.augment.warp import warp_batch

    arrays = batch(step)
    expected = np.empty((B, 2, 11, 11, 3), np.float32)
    slot = {name: arrays[name][step % SLOTS] for name in ("indices", "matrices", "shifts")}
    warp_batch(arrays["images"], **slot, out=expected)
    np.testing.assert_allclose(warp.crops(**arrays, target=11), expected, rtol=0, atol=5e-7)


@pytest.mark.gxx
@pytest.mark.parametrize("dtype", [np.float32, np.uint16])
def test_patches_are_those_of_the_crops(dtype):
    arrays = batch(2)
    expected = viewpoints.gather(warp.crops(**arrays, target=11), 7, dtype=dtype)
    np.testing.assert_array_equal(warp.patches(**arrays, target=11, extent=7, dtype=dtype), expected, strict=True)


@pytest.mark.gxx
def test_images_of_more_than_four_gibibytes():
    """Pages that are not written take no memory."""
    images = np.zeros((2**32 // (2000 * 3000 * 3) + 2, 2000, 3000, 3), np.uint8)
    images[-1, 900:1100, 1400:1600] = np.random.default_rng(0).integers(0, 256, (200, 200, 3), np.uint8)
    arrays = batch(0, images)
    arrays["indices"][:] = len(images) - 1
    for b, crops in enumerate(warp.crops(**arrays, target=11)):
        expected = warp_reference(images[-1], arrays["matrices"][0, b], 11, arrays["shifts"][0, b])
        np.testing.assert_allclose(crops, expected, rtol=0, atol=5e-7)
        assert expected.std() > 0.1


@pytest.mark.gxx
def test_nan_in_a_shift_passes():
    arrays = batch()
    arrays["shifts"][0, 3, 1] = np.nan
    crops = warp.crops(**arrays, target=11)
    assert np.isnan(crops[3, ..., 1]).all()
    assert np.isnan(crops).sum() == crops[3, ..., 1].size


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"images": np.zeros((7, *SIZE, 3), np.float32)}, "images has dtype float32, expected uint8"),
        ({"images": np.zeros((7, *SIZE), np.uint8)}, "images has shape (7, 40, 31), expected (any, any, any, 3)"),
        ({"images": np.zeros((7, 1, 31, 3), np.uint8)}, "expected 2 to 32768 pixels a side"),
        ({"images": np.zeros((0, 2, 32769, 3), np.uint8)}, "expected 2 to 32768 pixels a side"),
        ({"images": np.zeros((7, 40, 62, 3), np.uint8)[:, :, ::2]}, "images has strides"),
        ({"indices": np.zeros((SLOTS, B), np.int32)}, "indices has dtype int32, expected int64"),
        ({"indices": np.zeros(B, np.int64)}, "indices has shape (5,), expected (any, any)"),
        ({"indices": np.zeros((2, B), np.int64)}, "matrices has shape (3, 5, 2, 2, 3), expected (2, 5, 2, 2, 3)"),
        ({"matrices": np.zeros((SLOTS, B, 2, 2, 3), np.float32)}, "matrices has dtype float32, expected float64"),
        ({"matrices": np.zeros((SLOTS, B, 2, 3))}, "matrices has shape (3, 5, 2, 3), expected (3, 5, 2, 2, 3)"),
        ({"shifts": np.zeros((SLOTS, B))}, "shifts has dtype float64, expected float32"),
        ({"shifts": np.zeros((SLOTS, B), np.float32)}, "shifts has shape (3, 5), expected (3, 5, 3)"),
        ({"step": np.zeros(2, np.int64)}, "step has shape (2,), expected (1)"),
        ({"step": 3}, "step is int, expected a NumPy or a CuPy array"),
        ({"target": 0}, "target is 0, expected 1 or more"),
        ({"target": 2.5}, "target is 2.5, expected 1 or more"),
        ({"target": 20000}, "would have 2^31 elements or more"),
    ],
)
def test_what_the_warp_refuses(change, sentence):
    for call in (warp.crops, lambda **arrays: warp.patches(**arrays, extent=arrays["target"])):
        with pytest.raises(InputError, match=f"^warp: .*{re.escape(sentence)}"):
            call(**batch() | {"target": 11} | change)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"extent": 12}, "extent is 12, expected 1 to 11"),
        ({"dtype": np.float16}, "dtype is float16, expected float32, or uint16 for the bits of bfloat16"),
    ],
)
def test_patches_that_are_refused(change, sentence):
    with pytest.raises(InputError, match=f"^warp: {re.escape(sentence)}"):
        warp.patches(**batch() | {"target": 11, "extent": 7} | change)


def test_a_staging_buffer_without_slots_is_refused():
    empty = {"indices": np.zeros((0, B), np.int64), "matrices": np.zeros((0, B, 2, 2, 3))}
    with pytest.raises(InputError, match=r"^warp: indices .*at least one slot"):
        warp.crops(**batch() | empty | {"shifts": np.zeros((0, B, 3), np.float32)}, target=11)
    with pytest.raises(InputError, match=r"^gather_batch: .* has shape \(0, 4\), expected at least one slot"):
        gather(np.zeros((0, 4), np.float32), np.zeros(1, np.int64))


@pytest.mark.parametrize(
    ("batches", "step", "version", "sentence"),
    [
        (np.zeros((2, 4)), np.zeros(1, np.int64), None, "batches has dtype float64, expected float32"),
        (np.zeros((2, 8), np.float32)[:, ::2], np.zeros(1, np.int64), None, "batches has strides"),
        (np.zeros((2, 4), np.float32), np.zeros(1, np.int32), None, "step has dtype int32, expected int64"),
        (np.zeros((2, 4), np.float32), np.zeros((), np.int64), None, "step has shape (), expected (1)"),
        (
            np.zeros((2, 3), np.float32),
            np.zeros(1, np.int64),
            "vectorised",
            "a slot has 12 bytes; version 'vectorised' needs",
        ),
        (
            np.zeros((2, 4), np.float32),
            np.zeros(1, np.int64),
            "none",
            "version is 'none', expected naive or vectorised",
        ),
    ],
)
def test_what_gather_batch_refuses(batches, step, version, sentence):
    with pytest.raises(InputError, match=f"^gather_batch: .*{re.escape(sentence)}"):
        gather(batches, step, version)
