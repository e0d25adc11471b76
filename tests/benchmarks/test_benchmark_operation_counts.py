"""Operations and bytes of one call, against numbers counted by hand for the published network."""

import pytest

from benchmarks.harness.operation_counts import (
    Work,
    clip_work,
    constraints_work,
    conv2d_work,
    dense_work,
    dropout_work,
    maxout_work,
    maxpool2d_work,
    mse_work,
    nan_guard_work,
    nesterov_work,
    relu_work,
    viewpoints_work,
    warp_work,
)
from gzkern.core.shapes import BACKWARD_BIAS, BACKWARD_DATA, BACKWARD_WEIGHTS, FORWARD, Conv2dSizes


def layers(N):
    return {
        "conv1": (Conv2dSizes(3, 45, 45, N, 6, 6, 32), "pool"),
        "conv2": (Conv2dSizes(32, 20, 20, N, 5, 5, 64), "pool"),
        "conv3": (Conv2dSizes(64, 8, 8, N, 3, 3, 128), "relu"),
        "conv4": (Conv2dSizes(128, 6, 6, N, 3, 3, 128), "pool"),
    }


@pytest.mark.parametrize(
    ("layer", "gflop_at_16", "gflop_at_256"),
    [("conv1", 2.831, 45.298), ("conv2", 6.711, 107.374), ("conv3", 1.359, 21.743), ("conv4", 1.208, 19.327)],
)
@pytest.mark.parametrize("pass_name", [FORWARD, BACKWARD_DATA, BACKWARD_WEIGHTS])
def test_operations_of_a_convolution(layer, gflop_at_16, gflop_at_256, pass_name):
    for N, gflop in ((256, gflop_at_16), (4096, gflop_at_256)):
        sizes, epilogue = layers(N)[layer]
        assert conv2d_work(sizes, pass_name, epilogue).flops / 1e9 == pytest.approx(gflop, abs=5e-4)
        assert conv2d_work(sizes, pass_name, "plain").flops / 1e9 == pytest.approx(gflop, abs=5e-4)


@pytest.mark.parametrize(
    ("layer", "pass_name", "N", "megabytes"),
    [
        ("conv2", FORWARD, 256, 18.6),
        ("conv2", FORWARD, 4096, 293.9),
        ("conv2", BACKWARD_DATA, 256, 18.6),
        ("conv2", BACKWARD_DATA, 4096, 293.8),
        ("conv2", BACKWARD_WEIGHTS, 4096, 293.8),  # 293.6 and the gradient of 0.2 that is stored
        ("conv4", FORWARD, 256, 6.0),
        ("conv4", FORWARD, 4096, 86.6),
        ("conv4", BACKWARD_DATA, 256, 6.0),
        ("conv4", BACKWARD_DATA, 4096, 86.6),
        # What follows reads 388.8 kB an image of patches where a fused network reads 114.3 kB of crops, ...
        ("conv1", FORWARD, 256, 18.4 + 16 * (0.3888 - 0.1143)),
        ("conv1", FORWARD, 4096, 291.6 + 256 * (0.3888 - 0.1143)),
        # ... and keeps y of a ReLU, of four bytes, where it could keep a byte.
        ("conv3", FORWARD, 256, 10.4 - 1.1796),
        ("conv3", BACKWARD_DATA, 256, 10.4 + 3 * 1.1796 - 0.0184),
    ],
)
def test_bytes_of_a_convolution(layer, pass_name, N, megabytes):
    sizes, epilogue = layers(N)[layer]
    assert conv2d_work(sizes, pass_name, epilogue).bytes / 1e6 == pytest.approx(megabytes, abs=0.06)


def test_bytes_of_a_small_convolution():
    """x 2×4×5×3, weights 2×3×2×6, so that y is 6×2×4×3 and pooled 6×1×2×3."""
    sizes = Conv2dSizes(2, 4, 5, 3, 3, 2, 6)
    assert conv2d_work(sizes, FORWARD, "plain") == Work(2 * 144 * 12, 4 * (120 + 72 + 48 + 144))
    assert conv2d_work(sizes, FORWARD, "relu") == conv2d_work(sizes, FORWARD, "plain")
    assert conv2d_work(sizes, FORWARD, "pool").bytes == 4 * (120 + 72 + 48 + 36) + 36
    assert conv2d_work(sizes, FORWARD, "pool", itemsize=2).bytes == 2 * (120 + 72 + 36) + 4 * 48 + 36
    assert conv2d_work(sizes, BACKWARD_DATA, "plain").bytes == 4 * (72 + 144 + 120)
    assert conv2d_work(sizes, BACKWARD_DATA, "relu").bytes == 4 * (72 + 144 + 144 + 120)
    assert conv2d_work(sizes, BACKWARD_WEIGHTS, "pool").bytes == 4 * (120 + 36 + 72) + 36
    assert conv2d_work(sizes, BACKWARD_BIAS, "pool") == Work(144, 4 * (36 + 48) + 36)


@pytest.mark.parametrize(
    ("sizes", "activation", "B", "gflop", "megabytes"),
    [
        ((8192, 4096), "maxout", 16, 1.074, 134.9),
        ((8192, 4096), "maxout", 256, 17.180, 145.2),
        ((2048, 4096), "maxout", 16, 0.268, 33.9),
        ((2048, 4096), "maxout", 256, 4.295, 38.3),
        ((2048, 37), "linear", 16, 0.002, 0.4),
        ((2048, 37), "linear", 256, 0.039, 2.4),
    ],
)
def test_a_dense_layer(sizes, activation, B, gflop, megabytes):
    work = dense_work(*sizes, B, FORWARD, activation)
    assert work.flops / 1e9 == pytest.approx(gflop, abs=5e-4)
    assert work.bytes / 1e6 == pytest.approx(megabytes, abs=0.06)


def test_backward_passes_of_a_dense_layer():
    assert dense_work(5, 6, 7, BACKWARD_DATA, "maxout") == Work(420, 4 * (30 + 21 + 35) + 21)
    assert dense_work(5, 6, 7, BACKWARD_WEIGHTS, "relu") == Work(420, 4 * (35 + 42 + 42 + 30))
    assert dense_work(5, 6, 7, BACKWARD_BIAS, "linear") == Work(42, 4 * (42 + 6))


def test_the_other_operations():
    assert maxpool2d_work(2, 3, 5, 7).bytes == 4 * 210 + 4 * 84 + 84
    assert maxout_work(3, 5).bytes == 4 * (30 + 15) + 15
    assert [relu_work(10, backward).bytes for backward in (False, True)] == [80, 120]
    assert [clip_work(10, backward).bytes for backward in (False, True)] == [80, 120]
    assert dropout_work(10) == Work(10, 80)
    assert [mse_work(10, backward).bytes for backward in (False, True)] == [84, 124]
    assert nesterov_work(42_377_125).bytes / 5 == pytest.approx(169.5e6, abs=5e4)
    assert nan_guard_work(10).bytes == 40
    assert viewpoints_work(1, 69, 45).bytes / 1e3 == pytest.approx(114.3 + 388.8, abs=0.1)
    assert viewpoints_work(1, 69, 45, itemsize=1).bytes / 1e3 == pytest.approx(28.6 + 388.8, abs=0.1)
    assert warp_work(1, 69, 45).bytes / 1e3 == pytest.approx(57.1 + 388.8, abs=0.1)
    assert [constraints_work(37, 2, backward).bytes for backward in (False, True)] == [888, 1480]
