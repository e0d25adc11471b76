"""Dense layers: how they cut their sums, what their fused forms leave out, and that they give what the parts give.

Sums are cut into enough blocks for a GPU, with no chain of additions over 4,096 terms.
"""

from contextlib import contextmanager

import numpy as np
import pytest
from harness import assert_same_bits
from numerics import normal

from gzkern.core.dropout_mask import DropoutMask
from gzkern.core.fused_update import FusedUpdate
from gzkern.cuda import dropout, nesterov
from gzkern.cuda.dense import backward as dense_backward
from gzkern.cuda.dense import forward as dense_forward
from gzkern.cuda.dense.launches import parts_of
from gzkern.errors import InputError
from gzkern.runtime import arrays as device_arrays

TILES = [dense_forward._TILE, dense_backward._WEIGHTS_TILE]


@pytest.mark.parametrize("tile", TILES)
@pytest.mark.parametrize("terms", [0, 1, 16, 127, 129, 4096, 4097, 8192, 100_003])
@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (37, 16), (4096, 16), (4096, 4096), (5, 0)])
def test_parts_cover_the_sum(tile, terms, rows, columns):
    part, parts = parts_of(terms, rows, columns, tile)
    assert 0 < part <= 4096
    assert part % 16 == 0, "copies of four numbers begin at a part's first term"
    assert part * parts >= terms
    assert parts == 1 or part * (parts - 1) < terms, "a part without terms"


class CountingBackend:
    """A backend that launches nothing: kernels and their blocks, in order, and which of them are on the side stream."""

    def __init__(self):
        self.blocks = {}
        self.side_kernels = []
        self._on_side_stream = False

    def empty(self, shape, dtype=np.float32):
        return np.empty(shape, dtype)

    def asarray(self, array):
        return array

    def get_function(self, file, kernel, tile=()):
        def function(grid, block, arguments, shared):
            self.blocks.setdefault(kernel, int(np.prod(grid)))
            self.side_kernels += [kernel] * self._on_side_stream

        return function

    @contextmanager
    def side_stream(self):
        self._on_side_stream = True
        yield
        self._on_side_stream = False


@pytest.fixture
def counting(monkeypatch):
    counting = CountingBackend()
    monkeypatch.setattr(device_arrays, "_backend", lambda home: counting)
    return counting


# The network's dense layers at batch 16, and the layer that each view has for itself: blocks of the three products, and
# of the two that move weights.
@pytest.mark.parametrize(
    ("inputs", "outputs", "B", "blocks"),
    [
        (8192, 4096, 16, (512, 512, 4096, 512, 512)),
        (2048, 4096, 16, (256, 256, 1024, 512, 512)),
        (2048, 37, 16, (16, 8, 32, 64, 64)),
        (512, 1024, 256, (256, 256, 128, 128)),
    ],
)
def test_blocks_of_the_network(counting, inputs, outputs, B, blocks):
    x, gradient = np.empty((inputs, B), np.float32), np.empty((outputs, B), np.float32)
    weight = np.empty((inputs, outputs), np.float32)
    dense_forward.product(x, weight)
    dense_backward.backward_data(weight, gradient)
    dense_backward.backward_weights(x, gradient)
    dense_backward.backward_update(x, weight, gradient, motion(weight))
    if B <= dense_backward.MOST_COLUMNS:
        dense_backward.backward_update_data(x, weight, gradient, motion(weight))
    products = [number for kernel, number in counting.blocks.items() if kernel.endswith(("tiled", "vectorised"))]
    assert tuple(products) == blocks


def motion(weight, first_bad=-1, **how):
    """An update of weights, from rest."""
    return FusedUpdate(np.zeros_like(weight), 0.04, 0.9, np.full(1, first_bad, np.int64), **how)


@pytest.mark.parametrize(
    ("B", "how", "data", "kernels", "side_stream"),
    [
        (16, {}, True, ("update_data_vectorised", "data_sum"), ()),
        (16, {}, False, ("update_vectorised",), ()),
        (16, {"side_stream": True}, True, ("data_vectorised", "data_sum", "update_vectorised"), ("update_vectorised",)),
        (17, {}, True, ("data_vectorised", "data_sum", "update_vectorised"), ()),
    ],
)
def test_what_moves_the_weights(counting, B, how, data, kernels, side_stream):
    x, weight, gradient = (np.empty(shape, np.float32) for shape in ((8, B), (8, 4), (4, B)))
    update = motion(weight, **how)
    dx, dweight, dbias = dense_backward.backward(x, weight, None, None, gradient, data=data, update=update)
    assert (dx is not None) == data
    assert dweight is None
    assert dbias.shape == (4,)
    assert tuple(counting.blocks) == tuple(f"dense_backward_{kernel}" for kernel in ("bias_warp", *kernels))
    assert tuple(counting.side_kernels) == tuple(f"dense_backward_{kernel}" for kernel in side_stream)


@pytest.mark.gxx
@pytest.mark.parametrize(
    ("shape", "activation"), [((70, 38, 16), "maxout"), ((33, 132, 5), "relu"), ((9, 37, 20), "linear")]
)
@pytest.mark.parametrize("version", ["naive", "tiled", "vectorised"])
@pytest.mark.parametrize("data", [False, True])
def test_weights_move_as_by_their_gradient_and_nesterov(shape, activation, version, data):
    """To the bit: one sum of at most 128 terms is one part in both."""
    _, outputs, B = shape
    if (version == "vectorised" and outputs % 4) or (data and B > dense_backward.MOST_COLUMNS):
        pytest.skip("not for this shape")
    x, weight, saved, gradient = arrays(shape, activation)
    apart, fused = (motion(weight) for _ in range(2))
    expected, after = weight.copy(), (saved, activation, 1.25)
    nesterov.update(
        expected,
        apart.velocity,
        dense_backward.backward_weights(x, gradient, *after),
        apart.rate,
        apart.momentum,
        apart.first_bad,
    )
    function = dense_backward.backward_update_data if data else dense_backward.backward_update
    function(x, weight, gradient, fused, *after, version=version)
    assert_same_bits(weight, expected, "weight")
    assert_same_bits(fused.velocity, apart.velocity, "velocity")


@pytest.mark.gxx
def test_more_images_than_a_sum_has_terms():
    x, weight, _, gradient = arrays((2, 4, 4100), "linear")
    apart, fused = (motion(weight) for _ in range(2))
    expected = weight.copy()
    dweight = dense_backward.backward_weights(x, gradient)
    nesterov.update(expected, apart.velocity, dweight, apart.rate, apart.momentum, apart.first_bad)
    dense_backward.backward_update(x, weight, gradient, fused)
    assert_same_bits(weight, expected, "weight")


def arrays(shape, activation):
    """x, weight, what the forward pass keeps, and the gradient of y."""
    inputs, outputs, B = shape
    units = outputs // 2 if activation == "maxout" else outputs
    y = normal(units, B, seed=3)
    code = np.random.default_rng(shape).integers(0, 4, (units, B), np.uint8)
    saved = {"relu": y, "maxout": code}.get(activation)
    return normal(inputs, B), normal(inputs, outputs, seed=1), saved, normal(units, B, seed=2)


@pytest.mark.gxx
@pytest.mark.parametrize("activation", ["relu", "maxout"])
@pytest.mark.parametrize("B", [16, 7])
def test_dropout_within_is_dropout_apart(activation, B):
    mask = DropoutMask(0.4, 2**40 + 1, 2**33, 2)
    x, weight, _, gradient = arrays((40, 26, B), activation)
    bias = normal(26)
    y, code = dense_forward.forward(x, weight, bias, activation=activation)
    dropped, dropped_code = dense_forward.forward(x, weight, bias, activation=activation, drop=mask)
    assert_same_bits(dropped, dropout.forward(y, mask), "y")
    apart = dense_backward.backward(x, weight, y, code, dropout.backward(gradient, mask), activation=activation)
    within = dense_backward.backward(x, weight, dropped, dropped_code, gradient, activation=activation, drop=mask)
    for one, other in zip(within, apart, strict=True):
        np.testing.assert_array_equal(one, other)


def test_what_a_fused_layer_refuses(counting):
    x, weight, _, gradient = arrays((8, 4, 17), "linear")
    with pytest.raises(
        InputError, match="dense: drop is given, expected None: what a linear layer drops leaves no trace"
    ):
        dense_forward.forward(x, weight, np.zeros(4, np.float32), drop=DropoutMask(0.5, 1, 2, 3))
    with pytest.raises(InputError, match="dense: x has 17 columns, expected at most 16 for both gradients in one pass"):
        dense_backward.backward_update_data(x, weight, gradient, motion(weight))
    with pytest.raises(InputError, match=r"dense: velocity has shape \(8, 3\), expected \(8, 4\)"):
        dense_backward.backward_update(x, weight, gradient, motion(weight[:, :3]))
    with pytest.raises(InputError, match="dense: first_bad has dtype int32, expected int64"):
        dense_backward.backward_update(x, weight, gradient, FusedUpdate(weight.copy(), 0.1, 0.9, np.zeros(1, np.int32)))
    weight.flags.writeable = False
    with pytest.raises(InputError, match="dense: weight is updated in place, and is read-only"):
        dense_backward.backward_update(x, weight, gradient, motion(weight))
