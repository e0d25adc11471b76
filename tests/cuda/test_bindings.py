"""What bindings refuse: one sentence that names operation, argument, expected and got, before anything happens."""

import importlib
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from gzkern.core.dropout_mask import DropoutMask
from gzkern.core.shapes import Conv2dSizes
from gzkern.cuda import (
    constraints,
    dropout,
    maxout,
    maxpool2d,
    mse,
    nan_guard,
    nesterov,
    relu,
    step_counter,
    viewpoints,
)
from gzkern.cuda.conv2d import operation as conv2d
from gzkern.cuda.dense import backward as dense_backward
from gzkern.cuda.dense import forward as dense_forward
from gzkern.decision_trees.tree import load_tree
from gzkern.device import select
from gzkern.errors import GzkernError, InputError
from gzkern.runtime import arrays
from gzkern.runtime.backend import Limits
from gzkern.runtime.kernel import Geometry, Kernel

TREE = load_tree()


def floats(*shape):
    return np.zeros(shape, np.float32)


def codes(*shape):
    return np.zeros(shape, np.uint8)


@dataclass(frozen=True)
class Row:
    """A function of a binding with arguments that it takes.

    ``wrong``: shapes that it refuses, by argument. ``refused``: values of other arguments that it refuses, with what
    the sentence says. ``large``: shapes of arrays, each with fewer than 2³¹ elements, whose result would have more.
    ``batch``: the axis along the batch where it is not the last one; None: there is none.
    """

    function: Callable
    arrays: dict[str, np.ndarray]
    others: dict = field(default_factory=dict)
    wrong: dict[str, list[tuple]] = field(default_factory=dict)
    refused: list[tuple[dict, str]] = field(default_factory=list)
    large: dict[str, tuple] = field(default_factory=dict)
    batch: dict[str, int | None] = field(default_factory=dict)

    @property
    def op(self):
        return self.function.__module__.split(".")[2]

    @property
    def id(self):
        return f"{self.op}.{self.function.__name__}({','.join(self.arrays)})"

    def __call__(self, **changed):
        return self.function(**{**self.others, **self.arrays, **changed})


MASK = DropoutMask(0.5, 1, 2, 3)
UPDATE = {name: floats(5, 5) for name in ("weight", "velocity", "gradient")} | {"first_bad": np.full(1, -1, np.int64)}
PARAMETERS = {"weight": None, "bias": None}

ROWS = [
    Row(relu.forward, {"x": floats(5, 8)}),
    Row(relu.backward, {"gradient": floats(5, 8), "y": floats(5, 8)}, wrong={"y": [(8, 5), (40,)]}),
    Row(maxpool2d.forward, {"x": floats(2, 3, 5, 4)}, wrong={"x": [(3, 5, 4)]}),
    Row(
        maxpool2d.backward,
        {"gradient": floats(2, 2, 3, 4), "code": codes(2, 2, 3, 4)},
        {"H": 3, "W": 5},
        wrong={"gradient": [(2, 2, 2, 4), (2, 3, 4)], "code": [(2, 2, 3, 5)]},
        refused=[({"H": 5}, "gradient has shape"), ({"W": 7}, "gradient has shape")],
        large={"gradient": (2, 2, 3, 2**27), "code": (2, 2, 3, 2**27)},
    ),
    Row(
        maxpool2d.pool,
        {"x": floats(2, 3, 5, 6)},
        refused=[({"version": "vectorised"}, "multiple of 4"), ({"version": "none"}, "expected naive or vectorised")],
    ),
    Row(
        viewpoints.forward,
        {"crops": floats(2, 2, 7, 7, 3)},
        {"extent": 5},
        wrong={"crops": [(2, 2, 7, 6, 3), (2, 2, 7, 7), (2, 1, 7, 7, 3), (2, 2, 7, 7, 4)]},
        refused=[
            ({"extent": 0}, "extent is 0"),
            ({"extent": 8}, "extent is 8, expected 1 to 7"),
            ({"precision": "fp16"}, "precision is 'fp16'"),
        ],
        large={"crops": (2**21, 2, 7, 7, 3)},
        batch={"crops": 0},
    ),
    Row(
        viewpoints.backward,
        {"gradient": floats(3, 5, 5, 32)},
        {"target": 7},
        wrong={"gradient": [(3, 5, 4, 32), (3, 5, 5, 33), (1, 5, 5, 32), (3, 5, 5)]},
        refused=[({"target": 4}, "expected 1 to 4")],
        large={"gradient": (3, 1, 1, 2**28)},
    ),
    Row(
        viewpoints.gather,
        {"crops": codes(2, 2, 7, 7, 3)},
        {"extent": 5},
        refused=[({"version": "none"}, "expected naive or tiled")],
        batch={"crops": 0},
    ),
    Row(constraints.forward, {"z": floats(37, 4)}, {"tree": TREE}, wrong={"z": [(36, 4), (37,)]}),
    Row(
        constraints.backward,
        {name: floats(37, 4) for name in ("gradient", "z", "p", "conditional")},
        {"tree": TREE},
        wrong={"gradient": [(36, 4), (37,)], **{name: [(37, 5)] for name in ("z", "p", "conditional")}},
    ),
    Row(constraints.clip_forward, {"z": floats(37, 4)}),
    Row(constraints.clip_backward, {"gradient": floats(37, 4), "z": floats(37, 4)}, wrong={"z": [(37, 5)]}),
    Row(maxout.forward, {"x": floats(6, 4)}, wrong={"x": [(6,), (5, 4)]}),
    Row(
        maxout.backward,
        {"gradient": floats(3, 4), "code": codes(3, 4)},
        wrong={"gradient": [(12,)], "code": [(3, 5)]},
        large={"gradient": (3, 2**29), "code": (3, 2**29)},
    ),
    Row(dropout.forward, {"x": floats(6, 4)}, {"mask": MASK}),
    Row(dropout.backward, {"gradient": floats(6, 4)}, {"mask": MASK}),
    Row(
        dropout.apply,
        {"array": floats(5, 5)},
        {"mask": MASK, "name": "array"},
        refused=[({"version": "vectorised"}, "multiple of 4"), ({"version": "none"}, "expected naive or vectorised")],
    ),
    Row(mse.forward, {"p": floats(37, 4), "targets": floats(37, 4)}, wrong={"targets": [(4, 37)]}),
    Row(
        mse.backward,
        {"p": floats(37, 4), "targets": floats(37, 4)},
        {"gradient": floats()},
        wrong={"targets": [(4, 37)]},
        refused=[({"gradient": floats(1)}, "gradient has shape"), ({"gradient": 1.0}, "gradient is float")],
    ),
    Row(
        nan_guard.check,
        {"values": floats(8), "first_bad": np.full(1, -1, np.int64)},
        {"step": 3},
        wrong={"first_bad": [(2,), ()]},
        refused=[({"step": "3"}, "step is '3', expected a number"), ({"step": np.zeros(2, np.int64)}, "step is ")],
        batch={"first_bad": None},
    ),
    Row(
        nesterov.update,
        UPDATE,
        {"rate": 0.1, "momentum": 0.9},
        wrong={"velocity": [(30,)], "gradient": [(6, 5)], "first_bad": [(2,), ()]},
        refused=[({"rate": None}, "rate is None, expected a number"), ({"rate": floats(2)}, "rate is ")],
        batch=dict.fromkeys(UPDATE),
    ),
    Row(
        step_counter.advance,
        {"step": np.zeros(1, np.int64)},
        {"loss": floats(), "total": np.zeros(1)},
        wrong={"step": [(2,), ()]},
        refused=[({"loss": floats(1)}, "loss has shape"), ({"total": np.zeros(2)}, "total has shape")],
        batch={"step": None},
    ),
    Row(
        nesterov.step,
        UPDATE,
        {"rate": 0.1, "momentum": 0.9},
        refused=[({"version": "vectorised"}, "multiple of 4"), ({"version": "none"}, "expected naive or vectorised")],
        batch=dict.fromkeys(UPDATE),
    ),
    Row(
        dense_forward.forward,
        {"x": floats(6, 4), "weight": floats(6, 10), "bias": floats(10)},
        {"activation": "maxout"},
        wrong={"x": [(24,), (5, 4)], "weight": [(60,), (7, 10)], "bias": [(9,), (10, 1)]},
        refused=[
            ({"activation": "tanh"}, "activation is 'tanh', expected linear, relu or maxout"),
            ({"weight": floats(6, 9), "bias": floats(9)}, "expected an even number"),
        ],
        large={"x": (1, 4), "weight": (1, 2**30), "bias": (2**30,)},
        batch=PARAMETERS,
    ),
    *(
        Row(
            dense_backward.backward,
            {"x": floats(6, 4), "weight": floats(6, 10), "gradient": floats(rows, 4), **saved},
            {"activation": activation, "y": None, "code": None},
            wrong={
                "x": [(24,), (6, 5)],
                "weight": [(60,), (7, 10), (6, 11)],
                "gradient": [(rows - 1, 4)],
                **{name: [(rows, 5)] for name in saved},
            },
            refused=[({"activation": "tanh"}, "activation is 'tanh', expected linear, relu or maxout")],
            batch=PARAMETERS,
        )
        for activation, rows, saved in (
            ("linear", 10, {}),
            ("relu", 10, {"y": floats(10, 4)}),
            ("maxout", 5, {"code": codes(5, 4)}),
        )
    ),
    *(
        Row(
            function,
            arrays,
            refused=[({"version": "vectorised"}, "multiple of 4 outputs"), ({"version": "none"}, "expected naive or")],
            batch=PARAMETERS,
        )
        for function, arrays in (
            (dense_forward.product, {"x": floats(6, 4), "weight": floats(6, 10)}),
            (dense_backward.backward_data, {"weight": floats(6, 10), "gradient": floats(10, 4)}),
            (dense_backward.backward_weights, {"x": floats(6, 4), "gradient": floats(10, 4)}),
        )
    ),
    Row(
        conv2d.forward,
        {"x": floats(2, 7, 6, 4), "weight": floats(2, 3, 2, 5), "bias": floats(5, 5, 5)},
        wrong={
            "x": [(2, 7, 6), (3, 7, 6, 4), (2, 8, 6, 4)],
            "weight": [(3, 3, 2, 5), (2, 3, 2), (2, 8, 2, 5), (2, 3, 7, 5), (2, 0, 2, 5)],
            "bias": [(5, 5, 6), (5,)],
        },
        refused=[({"activate": False}, "a pool without ReLU")],
        large={"x": (1, 2, 2, 2**24), "weight": (1, 1, 1, 2**9), "bias": (2**9, 2, 2)},
        batch=PARAMETERS,
    ),
    *(
        Row(
            conv2d.backward,
            {"x": floats(2, 7, 6, 4), "weight": floats(2, 3, 2, 5), "gradient": floats(5, P, P, 4), **saved},
            {"y": None, "code": None, "activate": activate},
            wrong={
                "x": [(2, 7, 6), (3, 7, 6, 4), (2, 9, 6, 4)],
                "weight": [(3, 3, 2, 5), (2, 3, 2), (2, 8, 2, 5)],
                "gradient": [(5, P, P + 1, 4), (5, P, P)],
                **{name: [(5, P, P, 3)] for name in saved},
            },
            batch=PARAMETERS,
        )
        for activate, P, saved in (
            (False, 5, {}),
            (True, 5, {"y": floats(5, 5, 5, 4)}),
            (True, 3, {"code": codes(5, 3, 3, 4)}),
        )
    ),
    Row(
        conv2d.convolve,
        {"x": floats(2, 7, 6, 4), "weight": floats(2, 3, 2, 5), "bias": floats(5, 5, 5)},
        {"epilogue": "pool"},
        refused=[
            ({"version": "none"}, "expected naive or long or tiled"),
            ({"version": "vectorised"}, "multiples of 4 images and filters"),
            ({"version": "specialised"}, "multiples of 4 images and filters"),
            ({"precision": "fp16"}, "expected fp32 or tf32 or fp32x3 or bf16"),
            ({"precision": "bf16"}, "x has dtype float32, expected uint16"),
            ({"precision": "tf32", "version": "naive"}, "expected mma or wgmma"),
            ({"epilogue": "maxout"}, "expected plain or relu or pool"),
        ],
        batch=PARAMETERS,
    ),
    *(
        Row(
            function,
            {**arrays, "gradient": floats(5, 5, 5, 4)},
            {"saved": None, "epilogue": "plain", "sizes": Conv2dSizes(C=2, H=7, W=6, N=4, R=3, S=2, K=5)},
            wrong={"gradient": [(5, 5, 5, 3)], **{name: [(2, 4, 2, 4)] for name in arrays}},
            refused=[
                ({"version": "none"}, "expected naive or"),
                ({"epilogue": "maxout"}, "expected plain or relu or pool"),
            ],
            batch=dict.fromkeys(("x", "weight", "gradient")),  # it is one of the sizes
        )
        for function, arrays in (
            (conv2d.backward_data, {"weight": floats(2, 3, 2, 5)}),
            (conv2d.backward_weights, {"x": floats(2, 7, 6, 4)}),
            (conv2d.backward_bias, {}),
        )
    ),
    Row(
        dense_backward.backward_bias,
        {"gradient": floats(10, 4)},
        refused=[({"version": "none"}, "expected naive or warp")],
    ),
    Row(
        dense_forward.activate,
        {"partial": floats(2, 4, 10), "bias": floats(10)},
        wrong={"partial": [(4, 10), (2, 4, 9)], "bias": [(1, 10)]},
        batch={"partial": 1, "bias": None},
    ),
]


def strided(array):
    return np.zeros((*array.shape[:-1], 2 * array.shape[-1]), array.dtype)[..., ::2]


def misplaced(array):
    return np.zeros(array.size + 1, array.dtype)[1:].reshape(array.shape)


def too_large(array):
    return np.broadcast_to(array.dtype.type(0), (2, 2**30, *array.shape[2:]))


SPOILED = {
    "dtype": (lambda array: array.astype(np.float64), r"has dtype float64, expected \w+"),
    "strides": (strided, r"has strides \(.*\), expected a C-contiguous array"),
    "address": (misplaced, "address"),
    "size": (too_large, r"has \d+ elements, expected fewer than 2\^31"),
    "list": (lambda array: array.tolist(), "is list, expected a NumPy or a CuPy array"),
    "nothing": (lambda array: None, "is NoneType, expected"),
    "number": (lambda array: 1.0, "is float, expected"),
}


class CupyArray:
    """The part of a CuPy array that runtime/arrays.py looks at."""

    def __init__(self, like, device=0):
        self.shape, self.dtype, self.size, self.ndim = like.shape, like.dtype, like.size, like.ndim
        self.strides, self.flags = like.strides, SimpleNamespace(c_contiguous=True)
        self.device, self.data = SimpleNamespace(id=device), SimpleNamespace(ptr=0)


CupyArray.__module__ = "cupy"


@pytest.fixture
def untouched(monkeypatch):
    """A device on which nothing may happen; it may be asked what it is."""

    class Untouched:
        limits = Limits(capability=90, multiprocessors=132, shared_bytes=227 * 1024)

        def __getattr__(self, name):
            pytest.fail(f"{name} was used")

    device = Untouched()
    monkeypatch.setattr(arrays, "_backend", lambda home: device)


def each(name, values):
    return pytest.mark.parametrize(name, [pytest.param(*value[1:], id=value[0]) for value in values])


def spoiled():
    for row in ROWS:
        for name, array in row.arrays.items():
            for how in SPOILED:
                contiguous = how == "strides" and array.size == 1
                no_pool = how == "nothing" and name == "code" and row.op == "conv2d"
                if not (contiguous or no_pool):  # which are as they should be
                    yield f"{row.id}-{name}-{how}", row, name, how


@each("row, name, how", spoiled())
@pytest.mark.usefixtures("untouched")
def test_an_array_that_is_none_of_ours(row, name, how):
    spoil, sentence = SPOILED[how]
    with pytest.raises(InputError, match=f"^{row.op}: {name} .*{sentence}"):
        row(**{name: spoil(row.arrays[name])})


@each("row, name, shape", [(f"{r.id}-{n}-{s}", r, n, s) for r in ROWS for n, shapes in r.wrong.items() for s in shapes])
@pytest.mark.usefixtures("untouched")
def test_a_wrong_shape(row, name, shape):
    with pytest.raises(InputError, match=f"^{row.op}: .*expected"):
        row(**{name: np.zeros(shape, row.arrays[name].dtype)})


@each("row, changed, sentence", [(f"{r.id}-{c}", r, c, s) for r in ROWS for c, s in r.refused])
@pytest.mark.usefixtures("untouched")
def test_a_wrong_value(row, changed, sentence):
    with pytest.raises(InputError, match=f"^{row.op}: .*{re.escape(sentence)}"):
        row(**changed)


@each("row, name", [(f"{r.id}-{n}", r, n) for r in ROWS if len(r.arrays) > 1 for n in r.arrays])
@pytest.mark.usefixtures("untouched")
def test_two_devices(row, name):
    with pytest.raises(InputError, match=f"^{row.op}: .*expected all arrays on one device, got .*{name} on cuda:1"):
        row(**{name: CupyArray(row.arrays[name], device=1)})
    on_gpus = {other: CupyArray(array, device=int(other == name)) for other, array in row.arrays.items()}
    with pytest.raises(InputError, match=f"^{row.op}: .*expected all arrays on one device, got .*{name} on cuda:1"):
        row(**on_gpus)


@each("row", [(r.id, r) for r in ROWS if r.large])
@pytest.mark.usefixtures("untouched")
def test_a_result_that_is_too_large(row):
    arrays = {
        name: CupyArray(np.broadcast_to(row.arrays[name].dtype.type(0), shape)) for name, shape in row.large.items()
    }
    with pytest.raises(InputError, match=rf"^{row.op}: .* would have 2\^31 elements or more"):
        row(**arrays)


def without_images(row):
    for name, array in row.arrays.items():
        axis = row.batch.get(name, -1)
        shape = list(array.shape)
        if axis is not None:
            shape[axis] = 0
        yield name, np.ones(shape, array.dtype)


@each("row", [(r.id, r) for r in ROWS])
@pytest.mark.gxx
@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # NumPy's, for the mean of nothing
def test_an_empty_batch(row):
    """Empty in, empty out, and 0 where a sum has no terms, as on the CPU."""
    results = row(**dict(without_images(row)))
    cpu = getattr(importlib.import_module(f"gzkern.cpu.{row.op}"), row.function.__name__, None)
    if cpu is None:  # a function below an operation
        return
    expected = cpu(**row.others | dict(without_images(row)))
    if not isinstance(results, tuple):
        results, expected = (results,), (expected,)
    for got, want in zip(results, expected, strict=True):
        assert (got is None) == (want is None)
        if got is not None:
            np.testing.assert_array_equal(got, np.asarray(want), strict=True)


RELU = Kernel("relu", "relu_forward")


@each(
    "geometry, arguments, error, sentence",
    [
        ("int", Geometry((1,), (32,)), (floats(8), floats(8), 8), GzkernError, "argument 2 is int, expected a NumPy"),
        ("float", Geometry((1,), (32,)), (floats(8), 0.5), GzkernError, "argument 1 is float, expected a NumPy"),
        ("strides", Geometry((1,), (32,)), (floats(8)[::2],), GzkernError, "argument 0 is an array of strides"),
        ("threads", Geometry((1,), (32, 64)), (), GzkernError, "a block of (32, 64) threads, expected 1 to 1024"),
        ("no threads", Geometry((1,), (0,)), (), GzkernError, "a block of (0,) threads"),
        ("blocks", Geometry((1, 65536), (32,)), (), InputError, "65536 blocks along y, expected 1 to 65535"),
    ],
)
def test_a_launch_that_is_refused(geometry, arguments, error, sentence):
    backend = SimpleNamespace(get_function=lambda file, kernel: pytest.fail("launched"))
    with pytest.raises(error, match=f"^relu_forward: .*{re.escape(sentence)}"):
        RELU(backend, geometry, *arguments)


def test_a_grid_without_blocks_is_no_launch():
    backend = SimpleNamespace(get_function=lambda file, kernel: pytest.fail("launched"))
    RELU(backend, Geometry((0,), (32,)), floats(0), floats(0), np.uint32(0))


@pytest.mark.gxx
def test_a_batch_that_begins_anywhere():
    """A slice of a user's crops is a view with any address; the device takes it all the same."""
    crops = np.random.default_rng(0).integers(0, 256, (3, 2, 7, 7, 3), np.uint8)
    device = select("emulated")
    patches = viewpoints.forward(device.asarray(crops[1:]), 5)
    np.testing.assert_array_equal(patches, select("cpu").operations.viewpoints.forward(crops[1:], 5))


@pytest.mark.gxx
def test_the_example_of_the_readme(capsys):
    text = (Path(__file__).parents[2] / "kernels" / "README.md").read_text()
    exec(re.search(r"```python\n(.*?)```", text, re.DOTALL)[1], {})
    assert capsys.readouterr().out.startswith("[[ 0.12573022 -0.12853466]")
