"""Which version of a convolution is launched for which sizes, and how."""

import numpy as np
import pytest

from gzkern.cpu import conv2d as oracle
from gzkern.cuda import conv2d
from gzkern.cuda.conv2d import Sizes

LAYERS = {  # of the published network at batch 16
    "conv1": Sizes(3, 45, 45, 256, 6, 6, 32),
    "conv2": Sizes(32, 20, 20, 256, 5, 5, 64),
    "conv3": Sizes(64, 8, 8, 256, 3, 3, 128),
    "conv4": Sizes(128, 6, 6, 256, 3, 3, 128),
}


@pytest.mark.parametrize(
    ("name", "blocks", "channels"),
    # images · windows' rows · pairs of windows · filters, each by blocks
    [
        ("conv1", 8 * 20 * 10 * 1, 1),
        ("conv2", 8 * 8 * 4 * 2, 2),
        ("conv3", 8 * 3 * 2 * 4, 4),
        ("conv4", 8 * 2 * 1 * 4, 4),
    ],
)
def test_the_layers_of_the_network_forward(name, blocks, channels):
    sizes = LAYERS[name]
    assert conv2d.forward_version(sizes) == "vectorised"
    geometry, (staged,) = conv2d.forward_geometry(sizes, "vectorised")
    assert geometry.grid == (blocks,)
    assert geometry.block == (128,)
    assert sizes.C % staged == 0
    assert staged == channels
    assert geometry.shared <= 56 * 1024


@pytest.mark.parametrize("name", LAYERS)
def test_the_layers_of_the_network_backward(name):
    sizes = LAYERS[name]
    assert conv2d.backward_data_version(sizes) == "tiled"
    geometry, (staged,) = conv2d.backward_data_geometry(sizes, "tiled")
    assert sizes.K % staged == 0
    assert geometry.shared <= 56 * 1024
    parts, steps = conv2d.backward_weights_parts(sizes)
    assert steps * 32 <= 4096
    assert (parts - 1) * steps < sizes.P * sizes.Q * 8 <= parts * steps
    blocks = conv2d.backward_weights_geometry(sizes, "tiled").grid[0]
    assert blocks >= 256, "too few for the multiprocessors of a large GPU"


def test_the_version_follows_from_the_sizes():
    aligned = LAYERS["conv3"]
    assert conv2d.forward_version(Sizes(64, 8, 8, 255, 3, 3, 128)) == "tiled"
    assert conv2d.forward_version(Sizes(64, 8, 8, 256, 3, 3, 126)) == "tiled"
    assert conv2d.forward_version(Sizes(456, 8, 8, 256, 3, 3, 128)) == "long"
    assert conv2d.backward_data_version(Sizes(64, 8, 8, 256, 3, 3, 456)) == "long"
    assert conv2d.forward_version(aligned) == "vectorised"


@pytest.mark.gxx
def test_filters_too_large_for_shared_memory_are_right_all_the_same():
    rng = np.random.default_rng(0)
    sizes = Sizes(1, 42, 41, 3, 40, 40, 2)
    assert conv2d.forward_version(sizes) == conv2d.backward_data_version(sizes) == "naive"
    x, weight = rng.standard_normal((1, 42, 41, 3), np.float32), rng.standard_normal((1, 40, 40, 2), np.float32)
    bias = np.zeros((2, 3, 2), np.float32)
    y, code = conv2d.forward(x, weight, bias)
    expected, _ = oracle.forward_oracle(*(a.astype(np.float64) for a in (x, weight, bias)))
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-4)
    dx, dweight, dbias = conv2d.backward(x, weight, y, code, y)
    exact = oracle.backward_oracle(*(a.astype(np.float64) for a in (x, weight, y)), code, y.astype(np.float64))
    for got, reference in zip((dx, dweight, dbias), exact, strict=True):
        np.testing.assert_allclose(got, reference, rtol=1e-4, atol=1e-2)
