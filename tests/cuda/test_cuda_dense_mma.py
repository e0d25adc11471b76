"""Which of the dense layers' products run on tensor cores, how they are cut up, and what is refused."""

import numpy as np
import pytest
from numerics import normal

from gzkern.core.bfloat16 import from_bfloat16, to_bfloat16
from gzkern.core.fused_update import FusedUpdate
from gzkern.cpu import dense as oracle
from gzkern.cuda.dense import backward as dense_backward
from gzkern.cuda.dense import forward as dense_forward
from gzkern.cuda.dense import mma as dense_mma
from gzkern.errors import InputError
from gzkern.runtime.emulator.backend import LIMITS

pytestmark = pytest.mark.gxx


@pytest.mark.parametrize("terms", [0, 1, 127, 129, 4096, 4097, 8192, 100_003])
@pytest.mark.parametrize("sums", [(1, 1), (4096, 64), (4096, 960), (8192, 4096), (40, 0)])
def test_parts_cover_the_sum(terms, sums):
    plan = dense_mma.plan(terms, sums, (256, 128), LIMITS)
    assert 0 < plan.part <= 4096
    assert plan.part % 32 == 0, "copies begin at a part's first term"
    assert plan.part * plan.parts >= terms
    assert plan.parts == 1 or plan.part * (plan.parts - 1) < terms, "a part without terms"


@pytest.mark.parametrize(
    ("sizes", "images", "grid"),
    [
        ((8192, 4096, 64), 64, (16, 1, 8)),
        ((8192, 4096, 256), 128, (16, 2, 4)),
        ((8192, 4096, 960), 128, (16, 8, 2)),
        ((2048, 4096, 64), 64, (16, 1, 8)),
    ],
)
def test_blocks_of_the_network(sizes, images, grid):
    """Nearly one for each multiprocessor of an H100, or two."""
    inputs, outputs, B = sizes
    assert dense_mma.images_of_a_block(B) == images
    plan = dense_mma.plan(inputs, (outputs, B), (dense_mma.LONG, images), LIMITS)
    assert plan.grid == grid


def layer(inputs, outputs, B, activation="maxout"):
    x, weight, bias = normal(inputs, B), normal(inputs, outputs), normal(outputs)
    units = outputs // 2 if activation == "maxout" else outputs
    code = np.full((units, B), 3, np.uint8) if activation == "maxout" else None
    return x, weight, bias, code, normal(units, B)


@pytest.fixture
def launched(monkeypatch):
    """Names of the kernels that were launched, in order."""
    from gzkern.runtime.kernel import Kernel

    names, launch = [], Kernel.__call__

    def note(self, *arguments):
        names.append(self.name)
        launch(self, *arguments)

    monkeypatch.setattr(Kernel, "__call__", note)
    return names


@pytest.mark.parametrize("precision", ["tf32", "fp32x3"])
@pytest.mark.parametrize(
    ("sizes", "tensor"), [((9, 36, 32), True), ((9, 36, 28), False), ((9, 37, 32), False), ((9, 36, 33), False)]
)
def test_tensor_cores_compute_what_fills_them(launched, precision, sizes, tensor):
    activation = "linear" if sizes[1] % 2 else "maxout"
    x, weight, bias, code, gradient = layer(*sizes, activation)
    y, _ = dense_forward.forward(x, weight, bias, activation=activation, precision=precision)
    dense_backward.backward(x, weight, y, code, gradient, activation=activation, precision=precision)
    passes = {name for name in launched if "_mma_" in name}
    expected = {f"dense_forward_mma_{precision}_64", f"dense_backward_data_mma_{precision}_64"}
    assert passes == (expected | {f"dense_backward_weights_mma_{precision}"} if tensor else set())


@pytest.mark.parametrize(
    ("precision", "B", "kernel"),
    [
        ("tf32", 64, "dense_backward_update_vectorised"),
        ("tf32", 68, "nesterov_vectorised"),
        ("fp32", 256, "dense_backward_update_vectorised"),
        ("fp32", 257, "nesterov_vectorised"),
    ],
)
def test_weights_move_where_their_gradient_is_made_until_that_is_slower_than_storing_it(launched, precision, B, kernel):
    x, weight, _, code, gradient = layer(8, 36, B)
    update = FusedUpdate(np.zeros_like(weight), 0.04, 0.9, np.full(1, -1, np.int64))
    how = {"activation": "maxout", "update": update, "precision": precision}
    assert dense_backward.backward(x, weight, None, code, gradient, **how)[1] is None
    assert launched[-1] == kernel


@pytest.mark.parametrize("activation", ["linear", "relu", "maxout"])
def test_bfloat16_is_computed_for_prediction(activation):
    x, weight, bias, _, _ = layer(40, 24, 16, activation)
    x, weight = to_bfloat16(x), to_bfloat16(weight)
    y, code = dense_forward.forward(x, weight, bias, activation=activation, precision="bf16")
    assert code is None
    wide = (array.astype(np.float64) for array in (from_bfloat16(x), from_bfloat16(weight), bias))
    expected, _ = oracle.forward(*wide, activation=activation)
    if activation != "linear":
        y = from_bfloat16(y)
    np.testing.assert_allclose(y, expected, rtol=1e-6 if activation == "linear" else 2.0**-8, atol=1e-4)


def test_a_layer_of_float32_answers_in_it(launched):
    x, weight, bias, _, _ = layer(9, 36, 40)
    y, code = dense_forward.forward(x, weight, bias, activation="maxout", precision="bf16")
    assert (y.dtype, code.dtype) == (np.float32, np.uint8)
    assert launched == ["dense_forward_vectorised", "dense_forward_maxout"]


def test_what_is_refused():
    x, weight, bias, code, gradient = layer(8, 36, 40)
    with pytest.raises(InputError, match="precision is 'bf16', expected fp32 or tf32 or fp32x3"):
        dense_backward.backward(x, weight, None, code, gradient, activation="maxout", precision="bf16")
    with pytest.raises(InputError, match="precision is 'fp16', expected fp32 or tf32 or fp32x3 or bf16"):
        dense_forward.forward(x, weight, bias, precision="fp16")
    narrow = to_bfloat16(x), to_bfloat16(weight)
    with pytest.raises(InputError, match=r"bf16 takes multiples of 4 \(bf16: 8\) outputs and images, got x \(8, 40\)"):
        dense_forward.forward(*narrow, bias, precision="bf16")
    with pytest.raises(InputError, match="x has dtype uint16, expected float32"):
        dense_forward.forward(*narrow, bias, precision="tf32")
