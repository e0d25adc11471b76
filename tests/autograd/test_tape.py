"""The tape: sums over uses, leaves keep their gradients, a spent tape says so."""

import numpy as np
import pytest

from gzkern.autograd.tape import Tape, Variable
from gzkern.device import select
from gzkern.errors import GzkernError


def double(tape, x):
    return tape.record(2 * x.value, (x,), lambda gradient: (2 * gradient,))


def add(tape, x, y):
    return tape.record(x.value + y.value, (x, y), lambda gradient: (gradient, gradient))


def test_a_variable_used_twice_sums_its_gradients():
    tape = Tape(select("cpu"))
    x = Variable(np.array([3.0]), needs_gradient=True)
    twice = double(tape, x)
    output = add(tape, add(tape, twice, x), twice)
    tape.backward(output, np.array([1.0]))
    np.testing.assert_array_equal(x.gradient, [5.0])
    assert twice.gradient is None  # given up once passed


def test_constants_get_no_gradient_and_prediction_records_nothing():
    x, constant = Variable(np.ones(2), needs_gradient=True), Variable(np.ones(2))
    tape = Tape(select("cpu"))
    tape.backward(add(tape, x, constant), np.ones(2))
    assert constant.gradient is None
    quiet = Tape(select("cpu"), recording=False)
    assert not add(quiet, x, constant).needs_gradient


def test_a_branch_that_leads_nowhere_is_skipped():
    tape = Tape(select("cpu"))
    x = Variable(np.ones(1), needs_gradient=True)
    output = double(tape, x)
    double(tape, x)
    tape.backward(output, np.ones(1))
    np.testing.assert_array_equal(x.gradient, [2.0])


def test_backward_twice_is_refused():
    tape = Tape(select("cpu"))
    output = double(tape, Variable(np.ones(1), needs_gradient=True))
    tape.backward(output, np.ones(1))
    with pytest.raises(GzkernError, match="walked already"):
        tape.backward(output, np.ones(1))


def test_a_long_chain_does_not_recurse():
    tape = Tape(select("cpu"))
    x = Variable(np.ones(1), needs_gradient=True)
    y = x
    for _ in range(5000):
        y = tape.record(y.value, (y,), lambda gradient: (gradient,))
    tape.backward(y, np.ones(1))
    np.testing.assert_array_equal(x.gradient, [1.0])
