"""Which version of a convolution is launched for which sizes, and how."""

import numpy as np
import pytest

from gzkern.cpu import conv2d as oracle
from gzkern.cuda import conv2d, conv2d_backward_data, conv2d_backward_weights, conv2d_forward, conv2d_tile
from gzkern.errors import InputError
from gzkern.shapes import Conv2dSizes

LAYERS = {  # of the published network at batch 16
    "conv1": Conv2dSizes(3, 45, 45, 256, 6, 6, 32),
    "conv2": Conv2dSizes(32, 20, 20, 256, 5, 5, 64),
    "conv3": Conv2dSizes(64, 8, 8, 256, 3, 3, 128),
    "conv4": Conv2dSizes(128, 6, 6, 256, 3, 3, 128),
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
    assert conv2d_forward.choose_version(sizes) == "vectorised"
    geometry, (staged,) = conv2d_forward.geometry(sizes, "vectorised")
    assert geometry.grid == (blocks,)
    assert geometry.block == (128,)
    assert sizes.C % staged == 0
    assert staged == channels
    assert geometry.shared <= 56 * 1024


@pytest.mark.parametrize("name", LAYERS)
def test_the_layers_of_the_network_backward(name):
    sizes = LAYERS[name]
    assert conv2d_backward_data.choose_version(sizes) == conv2d_backward_weights.choose_version(sizes) == "vectorised"
    geometry, (staged,) = conv2d_backward_data.geometry(sizes, "vectorised")
    assert sizes.K % staged == staged % 4 == 0
    assert geometry.shared <= 56 * 1024
    parts, steps = conv2d_backward_weights.parts(sizes)
    assert steps * 32 <= 4096
    assert (parts - 1) * steps < sizes.P * sizes.Q * 8 <= parts * steps
    blocks = conv2d_backward_weights.geometry(sizes, "vectorised").grid[0]
    assert blocks >= 256, "too few for the multiprocessors of a large GPU"


# C, H, W, N, R, S, K, and the versions of the forward pass, the gradient of x and that of the weights.
@pytest.mark.parametrize(
    ("sizes", "versions"),
    [
        ((64, 8, 8, 256, 3, 3, 128), ("vectorised", "vectorised", "vectorised")),
        ((64, 8, 8, 255, 3, 3, 128), ("tiled", "tiled", "tiled")),
        ((64, 8, 8, 256, 3, 3, 126), ("tiled", "tiled", "vectorised")),
        ((456, 8, 8, 256, 3, 3, 128), ("long", "vectorised", "vectorised")),
        ((64, 8, 8, 256, 3, 3, 456), ("vectorised", "long", "vectorised")),
        ((1, 15, 15, 256, 8, 8, 4), ("vectorised", "vectorised", "vectorised")),
        ((1, 15, 15, 256, 9, 9, 4), ("vectorised", "tiled", "vectorised")),  # too large for four filters a stage
        ((1, 30, 30, 256, 13, 13, 4), ("vectorised", "tiled", "vectorised")),
        ((1, 30, 30, 256, 14, 14, 4), ("naive", "tiled", "vectorised")),  # for two stages
        ((1, 30, 30, 256, 18, 18, 4), ("naive", "tiled", "vectorised")),
        ((1, 30, 30, 256, 19, 19, 4), ("naive", "naive", "vectorised")),  # for one
        ((1, 60, 60, 4, 60, 60, 4), ("naive", "naive", "vectorised")),
        ((0, 5, 5, 0, 3, 3, 0), ("vectorised", "vectorised", "vectorised")),
    ],
)
def test_the_version_follows_from_the_sizes(sizes, versions):
    sizes = Conv2dSizes(*sizes)
    choices = (
        conv2d_forward.choose_version,
        conv2d_backward_data.choose_version,
        conv2d_backward_weights.choose_version,
    )
    assert tuple(choice(sizes) for choice in choices) == versions
    for choice, version in zip(choices, versions, strict=True):
        assert choice(sizes, version) == version
        assert choice(sizes, "naive") == "naive"
    for geometry, version in zip((conv2d_forward.geometry, conv2d_backward_data.geometry), versions, strict=False):
        assert geometry(sizes, version)[0].shared <= 227 * 1024


@pytest.mark.parametrize(
    ("choice", "sizes", "version", "message"),
    [
        (
            conv2d_forward.choose_version,
            (64, 8, 8, 255, 3, 3, 128),
            "vectorised",
            "expected naive or long or tiled for these",
        ),
        (
            conv2d_backward_data.choose_version,
            (64, 8, 8, 256, 3, 3, 126),
            "vectorised",
            "expected naive or long or tiled",
        ),
        (
            conv2d_backward_weights.choose_version,
            (64, 8, 8, 255, 3, 3, 128),
            "vectorised",
            "expected naive or tiled for",
        ),
        (conv2d_forward.choose_version, (456, 8, 8, 256, 3, 3, 128), "tiled", "expected naive or long"),
        (conv2d_backward_data.choose_version, (64, 8, 8, 256, 3, 3, 456), "vectorised", "expected naive or long"),
        (conv2d_forward.choose_version, (1, 60, 60, 4, 60, 60, 4), "long", "expected naive for these sizes"),
    ],
)
def test_a_version_that_does_not_fit_is_refused(choice, sizes, version, message):
    with pytest.raises(InputError, match=message):
        choice(Conv2dSizes(*sizes), version)


@pytest.mark.parametrize("total", [0, 1, 4, 12, 20, 37, 64, 128, 460])
@pytest.mark.parametrize("extent", [1, 3, 5, 6, 13])
def test_a_stage_has_as_many_channels_as_fit(total, extent):
    sizes = Conv2dSizes(1, extent, extent, 4, extent, extent, 1)
    for stages, multiple in ((1, 1), (1, 4), (2, 1)):
        channels = conv2d_tile.stage_channels(sizes, total, stages, multiple)
        assert channels > 0
        assert channels % multiple == 0
        assert channels == multiple or stages * channels * conv2d_tile.stage_bytes(sizes) <= 56 * 1024
        assert -(-total // channels) * channels <= -(-total // multiple) * multiple, "empty channels"


@pytest.mark.parametrize("shape", [(1, 1, 1, 1, 1, 1, 1), (2, 5, 5, 0, 3, 3, 4), (3, 45, 45, 4096, 6, 6, 32),
                                   (1, 3, 3, 4500, 2, 2, 2), (512, 9, 9, 33, 3, 3, 512)])  # fmt: skip
def test_parts_of_the_gradient_of_the_weights(shape):
    sizes = Conv2dSizes(*shape)
    parts, steps = conv2d_backward_weights.parts(sizes)
    all_steps = sizes.P * sizes.Q * -(-sizes.N // 32)
    assert 1 <= steps * 32 <= 4096, "a chain of additions"
    assert parts * steps >= all_steps
    assert parts == 1 or (parts - 1) * steps < all_steps, "a part without terms"


@pytest.mark.gxx
def test_filters_too_large_for_shared_memory_are_right_all_the_same():
    rng = np.random.default_rng(0)
    sizes = Conv2dSizes(1, 42, 41, 3, 40, 40, 2)
    assert conv2d_forward.choose_version(sizes) == conv2d_backward_data.choose_version(sizes) == "naive"
    x, weight = rng.standard_normal((1, 42, 41, 3), np.float32), rng.standard_normal((1, 40, 40, 2), np.float32)
    bias = np.zeros((2, 3, 2), np.float32)
    y, code = conv2d.forward(x, weight, bias)
    expected, _ = oracle.forward_oracle(*(a.astype(np.float64) for a in (x, weight, bias)))
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-4)
    dx, dweight, dbias = conv2d.backward(x, weight, y, code, y)
    exact = oracle.backward_oracle(*(a.astype(np.float64) for a in (x, weight, y)), code, y.astype(np.float64))
    for got, reference in zip((dx, dweight, dbias), exact, strict=True):
        np.testing.assert_allclose(got, reference, rtol=1e-4, atol=1e-2)
