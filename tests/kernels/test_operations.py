"""The operations as the tape calls them, the same calls on every device, against float64 by the error rule."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import pytest
from numerics import UNIT, assert_bounded, normal, wide

from gzkern.core.dropout_mask import DropoutMask
from gzkern.decision_trees.tree import load_tree
from gzkern.device import select

TREE = load_tree()


@dataclass(frozen=True)
class Operation:
    """``call(module, arrays)`` gives a tuple of results; ``terms`` of the sums in each; 0: a chain of a few roundings.

    Sums are held against the same call on squares, everything else against four units in the last place of the
    largest value.
    """

    name: str
    inputs: dict[str, np.ndarray]
    call: Callable
    terms: tuple[int, ...]
    exact: bool = False

    @property
    def op(self) -> str:
        return self.name.split()[0]


def squares(arrays, keep=("y", "code", "targets")):
    return {name: a if name in keep or a.dtype == np.uint8 else a**2 for name, a in arrays.items()}


def codes(*shape, below):
    return np.random.default_rng(2).integers(0, below, shape).astype(np.uint8)


def operations():
    yield from convolutions()
    yield from dense_layers()
    yield from views_and_pool()
    yield from elementwise()
    yield from answers_and_loss()
    yield from updates()


def convolutions():
    x, weight, bias = normal(3, 11, 9, 20), normal(3, 4, 3, 10), normal(10, 8, 7)
    conv = {"x": x, "weight": weight, "bias": bias}
    yield Operation(
        "conv2d forward",
        conv,
        lambda op, a: op.forward(a["x"], a["weight"], a["bias"], activate=False, pool=False)[:1],
        (3 * 4 * 3 + 1,),
    )
    y = normal(10, 8, 7, 20, seed=1)
    code = codes(10, 4, 4, 20, below=16)
    code[:, :, 3] &= 5  # the last window holds one column
    pooled = {
        "x": x,
        "weight": weight,
        "y": normal(10, 4, 4, 20),
        "code": code,
        "gradient": normal(10, 4, 4, 20, seed=3),
    }
    terms = (10 * 4 * 3, 8 * 7 * 20, 20)
    yield Operation(
        "conv2d backward",
        pooled,
        lambda op, a: op.backward(a["x"], a["weight"], a["y"], a["code"], a["gradient"]),
        terms,
    )
    unpooled = {"x": x, "weight": weight, "y": y, "gradient": normal(10, 8, 7, 20, seed=4)}
    yield Operation(
        "conv2d backward, no pool",
        unpooled,
        lambda op, a: op.backward(a["x"], a["weight"], a["y"], None, a["gradient"]),
        terms,
    )


def dense_layers():
    dense = {"x": normal(300, 17), "weight": normal(300, 74), "bias": normal(74)}
    yield Operation("dense forward", dense, lambda op, a: op.forward(a["x"], a["weight"], a["bias"])[:1], (301,))
    back = {
        "x": normal(300, 17),
        "weight": normal(300, 74),
        "y": normal(37, 17),
        "code": codes(37, 17, below=4),
        "gradient": normal(37, 17, seed=5),
    }
    yield Operation(
        "dense backward",
        back,
        lambda op, a: op.backward(a["x"], a["weight"], a["y"], a["code"], a["gradient"], activation="maxout"),
        (74, 17, 17),
    )


def views_and_pool():
    crops = np.random.default_rng(0).random((3, 2, 23, 23, 3), np.float32)
    yield Operation("viewpoints forward", {"x": crops}, lambda op, a: (op.forward(a["x"], 15),), (0,), exact=True)
    patches = {"gradient": normal(3, 15, 15, 48)}
    yield Operation("viewpoints backward", patches, lambda op, a: (op.backward(a["gradient"], 23),), (8,))
    plane = {"x": np.maximum(normal(5, 7, 9, 20), 0)}
    yield Operation("maxpool2d forward", plane, lambda op, a: op.forward(a["x"]), (0, 0), exact=True)
    unpool = {"gradient": normal(5, 4, 5, 20), "code": codes(5, 4, 5, 20, below=16)}
    unpool["code"][:, 3] &= 3
    unpool["code"][:, :, 4] &= 5
    yield Operation(
        "maxpool2d backward", unpool, lambda op, a: (op.backward(a["gradient"], a["code"], 7, 9),), (0,), exact=True
    )


def elementwise():
    yield Operation("maxout forward", {"x": normal(10, 17)}, lambda op, a: op.forward(a["x"]), (0, 0), exact=True)
    pieces = {"gradient": normal(37, 17), "code": codes(37, 17, below=4)}
    yield Operation("maxout backward", pieces, lambda op, a: (op.backward(a["gradient"], a["code"]),), (0,), exact=True)
    yield Operation("relu forward", {"x": normal(7, 30)}, lambda op, a: (op.forward(a["x"]),), (0,), exact=True)
    rectified = {"gradient": normal(7, 30), "y": normal(7, 30, seed=1)}
    yield Operation("relu backward", rectified, lambda op, a: (op.backward(a["gradient"], a["y"]),), (0,), exact=True)
    mask = DropoutMask(0.5, 2**40 + 3, 12, 1)
    yield Operation(
        "dropout forward", {"x": normal(37, 17)}, lambda op, a: (op.forward(a["x"], mask),), (0,), exact=True
    )
    yield Operation(
        "dropout backward",
        {"gradient": normal(37, 17)},
        lambda op, a: (op.backward(a["gradient"], mask),),
        (0,),
        exact=True,
    )


def answers_and_loss():
    z = normal(37, 21)
    yield Operation("constraints forward", {"z": z}, lambda op, a: op.forward(a["z"], TREE), (0, 0))
    yield Operation(
        "constraints backward", {"z": z, "gradient": normal(37, 21, seed=1)}, partial(_constrained, tree=TREE), (0,)
    )
    raw = {"z": z}
    yield Operation("constraints clip_forward", raw, lambda op, a: (op.clip_forward(a["z"]),), (0,), exact=True)
    raw = {"z": z, "gradient": normal(37, 21, seed=1)}
    yield Operation(
        "constraints clip_backward", raw, lambda op, a: (op.clip_backward(a["gradient"], a["z"]),), (0,), exact=True
    )
    p = {"p": np.random.default_rng(0).random((37, 21), np.float32), "targets": np.full((37, 21), 0.25, np.float32)}
    yield Operation("mse forward", p, lambda op, a: (op.forward(a["p"], a["targets"]),), (0,))
    one = {**p, "gradient": np.ones((), np.float32)}
    yield Operation("mse backward", one, lambda op, a: (op.backward(a["gradient"], a["p"], a["targets"]),), (0,))


def updates():
    weights = {
        "weight": normal(40, 13),
        "velocity": normal(40, 13, seed=1),
        "gradient": normal(40, 13, seed=2),
        "first_bad": np.full(1, -1, np.int64),
    }
    yield Operation("nesterov update", weights, _updated, (0, 0))
    bad = {"values": np.array([1, np.inf, 2], np.float32), "first_bad": np.full(1, -1, np.int64)}
    yield Operation("nan_guard check", bad, _checked, (0,), exact=True)


def _constrained(op, a, tree):
    p, conditional = op.forward(a["z"], tree)
    return (op.backward(a["gradient"], a["z"], p, conditional, tree),)


def _updated(op, a):
    op.update(a["weight"], a["velocity"], a["gradient"], 0.125, 0.875, a["first_bad"])
    return a["weight"], a["velocity"]


def _checked(op, a):
    op.check(a["values"], 7, a["first_bad"])
    return (a["first_bad"],)


def run(operation, device, arrays):
    placed = {name: device.asarray(array.copy()) for name, array in arrays.items()}
    results = operation.call(getattr(device.operations, operation.op), placed)
    return [device.asnumpy(result) for result in results]


def prove(operation, device):
    """The largest error as a fraction of its bound."""
    got = run(operation, device, operation.inputs)
    cpu = select("cpu")
    exact = run(operation, cpu, wide(operation.inputs))
    scales = run(operation, cpu, squares(wide(operation.inputs))) if any(operation.terms) else exact
    worst = 0.0
    for value, reference, scale, terms in zip(got, exact, scales, operation.terms, strict=True):
        if operation.exact:
            np.testing.assert_array_equal(value, reference.astype(value.dtype))
            continue
        bound = 4 * UNIT * np.sqrt(terms * scale) if terms else 8 * UNIT * np.abs(reference).max()
        worst = max(worst, assert_bounded(np.asarray(value), np.asarray(reference), bound))
    return worst


OPERATIONS = [pytest.param(operation, id=operation.name) for operation in operations()]


def record(measured, device, operation, error):
    measured.append({"device": device, "kernel": operation.name, "proof": "operation", "error": error})


@pytest.mark.parametrize("operation", OPERATIONS)
def test_cpu(operation, measured):
    record(measured, "cpu", operation, prove(operation, select("cpu")))


@pytest.mark.gxx
@pytest.mark.parametrize("operation", OPERATIONS)
def test_emulated(operation, measured):
    record(measured, "emulated", operation, prove(operation, select("emulated")))


@pytest.mark.gpu
@pytest.mark.parametrize("operation", OPERATIONS)
def test_gpu(operation, measured):
    record(measured, "cuda", operation, prove(operation, select("cuda")))
