"""The constraint layer: the recorded vectors, values and vector-Jacobian products; other trees; hypotheses."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from gzkern.autograd.gradcheck import check_gradients
from gzkern.cpu import constraints
from gzkern.decision_trees.tree import load_tree
from gzkern.device import select
from gzkern.ops.constraints import constraints as constraints_op

TREE = load_tree()
RECORD = json.loads((Path(__file__).parents[1] / "golden" / "constraint_vectors.json").read_text())
VECTORS = RECORD["vectors"]


def column(values, dtype=np.float64):
    return np.array(values, dtype)[:, None]


def test_the_tree_is_that_of_the_record():
    assert list(TREE.columns) == RECORD["columns"]
    assert TREE.starts.tolist() == RECORD["question_start"]


@pytest.mark.parametrize("vector", VECTORS, ids=[f"{v['id']}-{v['kind']}" for v in VECTORS])
def test_recorded_vectors(vector):
    z, cotangent = column(vector["z"]), column(RECORD["cotangent"])
    p, conditional = constraints.forward(z, TREE)
    np.testing.assert_allclose(p, column(vector["p"]), rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(conditional, column(vector["conditional"]), rtol=1e-12, atol=1e-15)
    vjp = constraints.backward(cotangent, z, p, conditional, TREE)
    np.testing.assert_allclose(vjp, column(vector["vjp"]), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(constraints.clip_forward(z), column(vector["warmup_clip01"]), atol=0)
    p32, _ = constraints.forward(column(vector["z"], np.float32), TREE)
    np.testing.assert_allclose(p32, column(vector["p"]), rtol=1e-5, atol=1e-7)


def test_by_finite_differences():
    z = np.random.default_rng(0).uniform(0.2, 1.0, (37, 3)) * np.where(np.arange(37) % 5 == 4, -1, 1)[:, None]
    check_gradients(lambda tape, v: constraints_op(tape, v, TREE), [z], select("cpu"))


@settings(max_examples=60, deadline=None)
@given(arrays(np.float64, (37, 2), elements=st.floats(-3, 3)))
def test_answers_sum_to_their_parent(z):
    p, _ = constraints.forward(z, TREE)
    assert (p >= 0).all()
    for question in TREE.questions:
        parent = 1.0 if question.parent is None else p[question.parent]
        alive = z[question.columns].max(axis=0) > 1e-3
        np.testing.assert_allclose(p[question.columns].sum(axis=0)[alive], np.broadcast_to(parent, 2)[alive], atol=1e-8)


def test_question_six_is_not_scaled():
    z = np.full((37, 1), 1.0)
    z[0:2] = 0  # certainly a star, which volunteers are not asked anything more about
    p, _ = constraints.forward(z, TREE)
    assert p[13:15].sum() == pytest.approx(1)
    assert p[3:5].sum() == 0


def test_nan_passes_through():
    z = np.full((37, 2), 0.5)
    z[0, 1] = np.nan
    p, _ = constraints.forward(z, TREE)
    assert np.isfinite(p[:, 0]).all()
    assert np.isnan(p[0:3, 1]).all()


def test_a_tree_of_ones_own(tmp_path):
    path = tmp_path / "tree.toml"
    path.write_text(
        'name = "two"\n[[questions]]\nid = 7\nanswers = ["a", "b"]\nparent = [3, 1]\n'
        '[[questions]]\nid = 3\nanswers = ["x", "y", "z"]\n'
    )
    tree = load_tree(path)  # the child stands before its parent
    assert tree.columns == ("7.1", "7.2", "3.1", "3.2", "3.3")
    p, _ = constraints.forward(np.array([[1.0], [3.0], [2.0], [1.0], [1.0]]), tree)
    np.testing.assert_allclose(p[:, 0], [0.125, 0.375, 0.5, 0.25, 0.25])
    check_gradients(
        lambda tape, v: constraints_op(tape, v, tree), [np.array([[1.0], [3.0], [2.0], [1.0], [1.0]])], select("cpu")
    )
