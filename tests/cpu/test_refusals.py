"""Arguments that the CPU refuses: those that the kernels' bindings refuse, with the same sentences."""

import importlib
import re

import numpy as np
import pytest
from test_bindings import ROWS, SPOILED, Row

from gzkern.device import select
from gzkern.errors import InputError


def on_cpu(row):
    """The row's operation on the CPU; None where the CPU has none of that name."""
    function = getattr(importlib.import_module(f"gzkern.cpu.{row.op}"), row.function.__name__, None)
    return function and Row(function, row.arrays, row.others, row.wrong, row.refused, row.large, row.batch)


PAIRS = [(row, cpu) for row in ROWS if (cpu := on_cpu(row))]


def each(name, values):
    return pytest.mark.parametrize(name, [pytest.param(*value[1:], id=value[0]) for value in values])


def sentence_of(row, **changed):
    with pytest.raises(InputError) as caught:
        row(**changed)
    return str(caught.value)


def test_every_operation_is_here():
    names = set(vars(select("cpu").operations))
    assert {row.op for row, _ in PAIRS} == names


@each(
    "cuda, cpu, name, shape",
    [(f"{c.id}-{n}-{s}", k, c, n, s) for k, c in PAIRS for n, shapes in c.wrong.items() for s in shapes],
)
def test_a_wrong_shape_is_refused_as_by_the_bindings(cuda, cpu, name, shape):
    wrong = np.zeros(shape, cpu.arrays[name].dtype)
    assert sentence_of(cpu, **{name: wrong}) == sentence_of(cuda, **{name: wrong})


@each("cuda, cpu, changed", [(f"{c.id}-{v}", k, c, v) for k, c in PAIRS for v, _ in c.refused])
def test_a_wrong_value_is_refused(cuda, cpu, changed):
    cpu_sentence, cuda_sentence = sentence_of(cpu, **changed), sentence_of(cuda, **changed)
    if "precision" in changed:  # the devices offer others
        cpu_sentence, cuda_sentence = (sentence.partition(",")[0] for sentence in (cpu_sentence, cuda_sentence))
    assert cpu_sentence.replace("a NumPy array", "") == cuda_sentence.replace("a NumPy or a CuPy array", "")


def spoiled():
    for row, cpu in PAIRS:
        for name in cpu.arrays:
            for how in ("list", "nothing", "number"):
                if not (how == "nothing" and name == "code" and row.op == "conv2d"):  # a convolution without a pool
                    yield f"{cpu.id}-{name}-{how}", cpu, name, how


@each("cpu, name, how", spoiled())
def test_what_is_no_array_is_refused(cpu, name, how):
    spoil, _ = SPOILED[how]
    assert re.match(
        f"{cpu.op}: {name} is .*, expected a NumPy array", sentence_of(cpu, **{name: spoil(cpu.arrays[name])})
    )


@each("cpu, name", [(f"{c.id}-{n}", c, n) for _, c in PAIRS for n in c.arrays])
def test_another_dtype_is_refused(cpu, name):
    other = cpu.arrays[name].astype(np.int16)
    assert re.match(rf"{cpu.op}: \w+ has dtype \w+, expected", sentence_of(cpu, **{name: other}))


@each("cpu, name", [(f"{c.id}-{n}", c, n) for _, c in PAIRS for n in c.arrays])
def test_strided_arrays_are_taken_or_refused(cpu, name):
    """An operation that writes in place refuses an array that it cannot; every other gives the same result."""
    array = np.random.default_rng(0).integers(0, 2, cpu.arrays[name].shape).astype(cpu.arrays[name].dtype)
    strided = np.zeros((*array.shape[:-1], 2 * array.shape[-1]), array.dtype)[..., ::2]
    strided[...] = array
    if cpu.op == "nesterov" and name in ("weight", "velocity"):
        assert "expected a C-contiguous array" in sentence_of(cpu, **{name: strided})
    else:
        for got, want in zip(results(cpu, name, strided), results(cpu, name, array), strict=True):
            np.testing.assert_array_equal(got, want)


def results(cpu, name, array):
    """Call the operation on copies; return its results and then all of its arguments, which it may have written."""
    copies = {key: value.copy() for key, value in cpu.arrays.items()} | {
        name: array.copy() if array.flags.c_contiguous else array
    }
    returned = cpu(**copies)
    returned = returned if isinstance(returned, tuple) else (returned,)
    return [np.asarray(value) for value in (*returned, *copies.values()) if value is not None]


@pytest.mark.parametrize("name", ["weight", "velocity"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_read_only_arrays_are_not_updated(name, dtype):
    arrays = {key: np.zeros((4, 5), dtype) for key in ("weight", "velocity", "gradient")}
    arrays[name].flags.writeable = False
    with pytest.raises(InputError, match=f"^nesterov: {name} is updated in place, and is read-only; copy it first"):
        select("cpu").operations.nesterov.update(**arrays, rate=0.1, momentum=0.9, first_bad=np.full(1, -1, np.int64))


@pytest.mark.parametrize("shape", [(5, 3, 3, 1), (1, 3, 3, 4), (5, 3, 3, 2)])
def test_a_gradient_is_not_broadcast(shape):
    """Compiled code read beyond the end of such an array."""
    (row,) = [cpu for _, cpu in PAIRS if cpu.op == "conv2d" and "code" in cpu.arrays]
    assert "gradient has shape" in sentence_of(row, gradient=np.ones(shape, np.float32))
