"""Which version of a convolution is launched for which sizes, and how."""

from dataclasses import replace

import numpy as np
import pytest
from numerics import normal

from gzkern.core.bfloat16 import from_bfloat16, to_bfloat16
from gzkern.core.shapes import Conv2dSizes
from gzkern.cpu import conv2d as oracle
from gzkern.cuda.conv2d import backward_data as conv2d_backward_data
from gzkern.cuda.conv2d import backward_weights as conv2d_backward_weights
from gzkern.cuda.conv2d import forward as conv2d_forward
from gzkern.cuda.conv2d import operation as conv2d
from gzkern.cuda.conv2d import tile as conv2d_tile
from gzkern.cuda.conv2d.choice import ALGORITHMS, LADDERS, choose
from gzkern.errors import InputError
from gzkern.runtime.backend import Limits

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
    assert LADDERS["forward"].choose(sizes, None) == "vectorised"
    geometry, (staged,) = conv2d_forward.geometry(sizes, "vectorised")
    assert geometry.grid == (blocks,)
    assert geometry.block == (128,)
    assert sizes.C % staged == 0
    assert staged == channels
    assert geometry.shared <= 56 * 1024


@pytest.mark.parametrize("name", LAYERS)
def test_the_layers_of_the_network_backward(name):
    sizes = LAYERS[name]
    assert (
        LADDERS["backward_data"].choose(sizes, None) == LADDERS["backward_weights"].choose(sizes, None) == "vectorised"
    )
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
        LADDERS["forward"].choose,
        LADDERS["backward_data"].choose,
        LADDERS["backward_weights"].choose,
    )
    assert tuple(choice(sizes, None) for choice in choices) == versions
    for choice, version in zip(choices, versions, strict=True):
        assert choice(sizes, version) == version
        assert choice(sizes, "naive") == "naive"
    for geometry, version in zip((conv2d_forward.geometry, conv2d_backward_data.geometry), versions, strict=False):
        assert geometry(sizes, version)[0].shared <= 227 * 1024


@pytest.mark.parametrize(
    ("choice", "sizes", "version", "message"),
    [
        (
            LADDERS["forward"].choose,
            (64, 8, 8, 255, 3, 3, 128),
            "vectorised",
            "expected naive or long or tiled for these",
        ),
        (
            LADDERS["backward_data"].choose,
            (64, 8, 8, 256, 3, 3, 126),
            "vectorised",
            "expected naive or long or tiled",
        ),
        (
            LADDERS["backward_weights"].choose,
            (64, 8, 8, 255, 3, 3, 128),
            "vectorised",
            "expected naive or tiled for",
        ),
        (LADDERS["forward"].choose, (456, 8, 8, 256, 3, 3, 128), "tiled", "expected naive or long"),
        (LADDERS["backward_data"].choose, (64, 8, 8, 256, 3, 3, 456), "vectorised", "expected naive or long"),
        (LADDERS["forward"].choose, (1, 60, 60, 4, 60, 60, 4), "long", "expected naive for these sizes"),
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
    assert LADDERS["forward"].choose(sizes, None) == LADDERS["backward_data"].choose(sizes, None) == "naive"
    x, weight = rng.standard_normal((1, 42, 41, 3), np.float32), rng.standard_normal((1, 40, 40, 2), np.float32)
    bias = np.zeros((2, 3, 2), np.float32)
    y, code = conv2d.forward(x, weight, bias)
    expected, _ = oracle.forward_oracle(*(a.astype(np.float64) for a in (x, weight, bias)))
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-4)
    dx, dweight, dbias = conv2d.backward(x, weight, y, code, y)
    exact = oracle.backward_oracle(*(a.astype(np.float64) for a in (x, weight, y)), code, y.astype(np.float64))
    for got, reference in zip((dx, dweight, dbias), exact, strict=True):
        np.testing.assert_allclose(got, reference, rtol=1e-4, atol=1e-2)


H100 = Limits(capability=90, multiprocessors=132, shared_bytes=227 * 1024)
SMALL_GPU = Limits(capability=86, multiprocessors=46, shared_bytes=99 * 1024)


@pytest.mark.parametrize("precision", ["fp32", "tf32", "fp32x3"])
@pytest.mark.parametrize("limits", [H100, SMALL_GPU], ids=["H100", "a small GPU"])
@pytest.mark.parametrize("pass_name", ALGORITHMS)
def test_the_network_is_computed_by_compiled_kernels(pass_name, limits, precision):
    """In the precision that is asked for, by a tile that the device has room for; warpgroups where they are."""
    for name, sizes in LAYERS.items():
        for N in (256, 4096):
            if (name, pass_name) == ("conv1", "backward_data"):
                continue
            epilogue = "relu" if name == "conv3" else "pool"
            choice = choose(pass_name, replace(sizes, N=N), epilogue, limits, precision)
            if (name, pass_name) == ("conv1", "backward_weights") and limits is SMALL_GPU and precision != "fp32":
                assert choice.precision == "fp32", "rows of conv1 need more shared memory than this GPU has"
                continue
            assert choice.precision == precision, (name, N, choice)
            assert choice.version in (("specialised",) if precision == "fp32" else ("mma", "wgmma"))
            assert choice.version != "wgmma" or limits is H100
            assert choice.tile in ALGORITHMS[pass_name][choice.version].tiles(
                replace(sizes, N=N), epilogue, limits, precision
            )


def test_warpgroups_are_taken_where_they_are_filled():
    large, few = replace(LAYERS["conv3"], N=4096), LAYERS["conv3"]
    for pass_name in ALGORITHMS:
        assert choose(pass_name, large, "relu", H100, "tf32").version == "wgmma"
        assert choose(pass_name, few, "relu", H100, "tf32").version == "mma"
        assert choose(pass_name, few, "relu", H100, "tf32", "wgmma").version == "wgmma", "it was asked for"


@pytest.mark.parametrize("pass_name", ALGORITHMS)
def test_sizes_that_no_compiled_kernel_takes_go_down_the_ladder(pass_name):
    sizes = Conv2dSizes(5, 9, 9, 7, 3, 3, 6)
    for precision in ("fp32", "tf32", "fp32x3"):
        choice = choose(pass_name, sizes, "relu", H100, precision)
        assert (choice.version, choice.precision, choice.tile) == ("tiled", "fp32", None)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (("sideways", "fp32"), "pass is 'sideways', expected forward or backward_data or backward_weights"),
        (("backward_data", "bf16"), "precision of backward_data is 'bf16', expected fp32 or tf32 or fp32x3"),
        (("forward", "tf32", "naive"), "version of forward in tf32 is 'naive', expected mma or wgmma"),
        (("forward", "fp32", "mma"), "expected naive or long or tiled or vectorised or specialised"),
        (("forward", "bf16"), r"multiples of 4 \(bf16: 8\) images and filters.*got x \(5, 9, 9, 7\)"),
        (("forward", "tf32", "wgmma"), "compute capability 9.0, multiples of 8 channels"),
    ],
)
def test_what_cannot_be_chosen_is_refused(asked, message):
    pass_name, precision, *version = asked
    with pytest.raises(InputError, match=message):
        choose(pass_name, Conv2dSizes(5, 9, 9, 7, 3, 3, 6), "relu", H100, precision, *version)


@pytest.mark.gxx
@pytest.mark.parametrize("precision", ["fp32", "tf32", "fp32x3"])
def test_passes_are_computed_in_the_precision_that_is_asked_for(precision):
    """Each by its chosen kernel, all of one layer; tf32 is seen to be less exact than the others."""
    sizes = Conv2dSizes(8, 6, 6, 16, 3, 3, 16)
    x, weight, bias = normal(*sizes.x), normal(*sizes.weight, seed=1), normal(16, 4, 4, seed=2)
    y, code = conv2d.convolve(x, weight, bias, "pool", precision=precision)
    gradient = normal(*y.shape, seed=3)
    dx = conv2d.backward_data(weight, gradient, code, "pool", sizes, precision=precision)
    dweight = conv2d.backward_weights(x, gradient, code, "pool", sizes, precision=precision)
    exact, _ = oracle.forward_oracle(*(a.astype(np.float64) for a in (x, weight, bias)))
    references = oracle.backward_oracle(*(a.astype(np.float64) for a in (x, weight, y)), code, gradient.astype(float))
    for got, reference in zip((y, dx, dweight), (exact, *references), strict=False):
        error = np.abs(got - reference).max() / np.abs(reference).max()
        assert error < (2e-3 if precision == "tf32" else 2e-6)
        assert precision != "tf32" or error > 2e-6


@pytest.mark.gxx
def test_bfloat16_is_computed_for_prediction():
    sizes = Conv2dSizes(16, 6, 6, 16, 3, 3, 16)
    arrays = [normal(*sizes.x), normal(*sizes.weight, seed=1), normal(16, 4, 4, seed=2)]
    x, weight = (to_bfloat16(array) for array in arrays[:2])
    y, code = conv2d.convolve(x, weight, arrays[2], "pool", precision="bf16")
    exact, _ = oracle.forward_oracle(*(a.astype(np.float64) for a in arrays))
    assert code is None
    assert y.dtype == np.uint16
    np.testing.assert_allclose(from_bfloat16(y), exact, atol=0.02 * np.abs(exact).max())


@pytest.mark.gxx
@pytest.mark.parametrize(
    ("pass_name", "version"), [(name, version) for name, versions in ALGORITHMS.items() for version in versions]
)
def test_a_tile_of_another_layer_is_refused(pass_name, version):
    """Before anything is launched: of another filter, of another form, and for sizes that it does not divide."""
    algorithm = ALGORITHMS[pass_name][version]
    precision = next(iter(algorithm.kernels))
    sizes = Conv2dSizes(32, 8, 8, 16, 3, 3, 64)
    for other, epilogue in (
        (replace(sizes, R=2), "relu"),
        (replace(sizes, N=18), "pool"),
        (replace(sizes, S=2), "pool"),
    ):
        tile = algorithm.choose_tile(sizes, "relu", H100, precision)
        x, weight = np.empty(other.x, np.float32), np.empty(other.weight, np.float32)
        gradient = np.empty(other.y(epilogue), np.float32)
        saved = gradient if epilogue == "relu" else np.empty(other.y(epilogue), np.uint8)
        arrays = {"x": x, "weight": weight, "gradient": gradient, "saved": saved, "sizes": other}
        arrays["bias"] = np.empty((other.K, other.P, other.Q), np.float32)
        function, names = {
            "forward": ("convolve", ("x", "weight", "bias")),
            "backward_data": ("backward_data", ("weight", "gradient", "saved", "sizes")),
            "backward_weights": ("backward_weights", ("x", "gradient", "saved", "sizes")),
        }[pass_name]
        with pytest.raises(InputError, match=f"version '{version}' takes"):
            getattr(conv2d, function)(
                **{name: arrays[name] for name in names},
                epilogue=epilogue,
                version=version,
                precision=precision,
                tile=tile,
            )


@pytest.mark.parametrize("sizes", [(0, 8, 8, 16, 3, 3, 64), (32, 8, 8, 16, 3, 3, 0), (32, 8, 8, 0, 3, 3, 64)])
@pytest.mark.parametrize("precision", ["fp32", "tf32", "fp32x3"])
@pytest.mark.parametrize("pass_name", ALGORITHMS)
def test_empty_sizes_have_a_version_too(pass_name, precision, sizes):
    assert choose(pass_name, Conv2dSizes(*sizes), "relu", H100, precision)


@pytest.mark.parametrize(
    ("version", "precision"), [(None, "fp32"), ("tiled", "fp32"), ("mma", "fp32"), ("mma", "tf31")]
)
def test_a_tile_without_its_algorithm_is_refused(version, precision):
    sizes = Conv2dSizes(8, 6, 6, 16, 3, 3, 16)
    x, weight, bias = normal(*sizes.x), normal(*sizes.weight), normal(16, 4, 4)
    tile = ALGORITHMS["forward"]["specialised"].choose_tile(sizes, "relu", H100, "fp32")
    with pytest.raises(InputError, match=f"conv2d: version is {version!r}, expected .*a tile is one of an algorithm"):
        conv2d.convolve(x, weight, bias, "relu", version, precision, tile)
