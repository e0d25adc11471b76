"""The 16 viewpoints: every recorded entry, rot90 on whole patches, the gradient, uint8 crops."""

import json
from pathlib import Path

import numpy as np
import pytest

from gzkern.autograd.gradcheck import check_gradients
from gzkern.cpu import viewpoints
from gzkern.device import select
from gzkern.errors import InputError
from gzkern.ops.viewpoints import viewpoints as viewpoints_op

INDEX = json.loads((Path(__file__).parents[1] / "golden" / "viewpoint_index.json").read_text())


def numbered_crops(B, target):
    """Crops whose every value is its own number."""
    return np.arange(B * 2 * target * target * 3, dtype=np.float64).reshape(B, 2, target, target, 3)


def test_every_recorded_entry():
    crops = numbered_crops(3, 69)
    patches = viewpoints.forward(crops, 45)
    assert patches.shape == (3, 45, 45, 48)
    assert len(INDEX["entries"]) == 160
    for entry in INDEX["entries"]:
        for b in range(3):
            got = patches[:, entry["i"], entry["j"], entry["view"] * 3 + b]
            np.testing.assert_array_equal(got, crops[b, entry["crop"], entry["row"], entry["col"]])


@pytest.mark.parametrize(("target", "extent"), [(69, 45), (7, 5), (5, 5), (4, 1)])
def test_patches_are_turned_corners(target, extent):
    crops = numbered_crops(2, target)
    patches = viewpoints.forward(crops, extent).reshape(3, extent, extent, 16, 2)
    for view in range(16):
        for b in range(2):
            crop = crops[b, view // 8]
            mirrored = crop[:, ::-1] if view % 8 >= 4 else crop
            expected = np.rot90(mirrored, view % 4)[:extent, :extent]
            np.testing.assert_array_equal(patches[:, :, :, view, b].transpose(1, 2, 0), expected)


@pytest.mark.parametrize(("B", "target", "extent"), [(0, 7, 5), (1, 69, 45), (5, 13, 7), (16, 69, 45)])
def test_fast_path_equals_the_oracle(B, target, extent):
    crops = numbered_crops(B, target).astype(np.float32)
    np.testing.assert_array_equal(viewpoints.forward(crops, extent), viewpoints.forward_oracle(crops, extent))


def test_by_finite_differences():
    crops = np.random.default_rng(0).random((2, 2, 7, 7, 3))
    check_gradients(lambda tape, v: viewpoints_op(tape, v, 5), [crops], select("cpu"))


def test_wrong_shapes_are_named():
    with pytest.raises(InputError, match="viewpoints: crops has shape"):
        viewpoints.forward(np.zeros((2, 2, 7, 6, 3)), 5)
