"""Cases of kernels/constraints.cu.

Forward, every term of a sum is ≥ 0, so nothing cancels: the relative error of a result is at most γ(k) = k·u/(1 − k·u),
k roundings being met on the way to it. Backward, differences cancel: the error is at most γ(k) times what the same
operation gives with sums and absolute values in place of differences. Both hold for each result by itself, 1/Σ
included, which is a factor of both sides. The inputs are float32, so no error of theirs is counted.
"""

import json
from functools import partial
from pathlib import Path

import numpy as np
from harness import Case, equals
from numerics import UNIT, assert_bounded

from gzkern.cpu import constraints as oracle
from gzkern.cuda import constraints
from gzkern.decision_trees.tree import DecisionTree, Question, load_tree

RECORD = json.loads((Path(__file__).parents[1] / "golden" / "constraint_vectors.json").read_text())
SMALLEST = 2.0**-126  # below it float32 has fewer bits


def tree_of(name, *questions):
    """A tree of (number of answers, parent's column or None)."""
    starts = np.cumsum([0] + [count for count, _ in questions])
    return DecisionTree(
        name,
        tuple(
            Question(k, "", tuple("abcdefgh"[:count]), int(starts[k]), parent)
            for k, (count, parent) in enumerate(questions)
        ),
        tuple(f"answer{a}" for a in range(starts[-1])),
    )


TREES = {
    "gz2": load_tree(),
    # each question follows from the last answer of the one before
    "chain": tree_of("chain", (2, None), *((2 + k % 3, sum(2 + i % 3 for i in range(k)) - 1) for k in range(1, 12))),
    # children stand before their parents; answer 7 leads to two questions
    "backwards": tree_of("backwards", (3, 4), (2, 7), (2, 7), (3, None), (5, None)),
}


def answers(tree, B, kind):
    rng = np.random.default_rng(B)
    z = rng.normal(0.3, 1, (len(tree), B)).astype(np.float32)
    z[rng.random(z.shape) < 0.05] = 0
    if kind == "nan":
        z[rng.random(z.shape) < 0.1] = np.nan
    elif kind == "alive":  # every answer > 0, so that the whole tree is
        z = np.abs(z) + np.float32(0.1)
    elif kind == "dead":  # no answer > 0 in half of the questions
        z = np.where((tree.question_of % 2 == 0)[:, None], -np.abs(z), z)
    elif kind == "tiny":  # the sums are smaller than ε
        z *= np.float32(1e-13)
    elif kind == "golden":
        z = np.array([vector["z"] for vector in RECORD["vectors"]], np.float32).T
    return z


def backward_inputs(tree, B, kind):
    z = answers(tree, B, kind)
    p, conditional = oracle.forward(z, tree)
    gradient = np.random.default_rng(B + 1).standard_normal(z.shape, np.float32)
    return {"gradient": gradient, "z": z, "p": p, "conditional": conditional}


def within(got, exact, k, scale):
    """|got − exact| ≤ γ(k)·scale, k being one number a row; NaN where exact is NaN and nowhere else."""
    nan = np.isnan(exact)
    np.testing.assert_array_equal(np.isnan(got), nan)
    bound = (k * UNIT / (1 - k * UNIT))[:, None] * np.where(nan, 0, scale) + SMALLEST
    return assert_bounded(np.where(nan, 0, got), np.where(nan, 0, exact), bound)


def forward_within(tree):
    def check(inputs, results):
        p, conditional = oracle.forward(inputs["z"].astype(np.float64), tree)
        k_conditional = np.array([len(q.answers) + 2 for q in tree.questions])  # n sums, ε itself, the quotient
        k_p = k_conditional.copy()
        for index in tree.order:
            parent = tree.parents[index]
            if parent >= 0:
                k_p[index] += k_p[tree.question_of[parent]] + 1
        return max(
            within(results[0], p, k_p[tree.question_of], p),
            within(results[1], conditional, k_conditional[tree.question_of], conditional),
        )

    return check


def backward_within(tree):
    def check(inputs, results):
        exact = {name: array.astype(np.float64) for name, array in inputs.items()}
        return within(results[0], oracle.backward(**exact, tree=tree), *_without_cancelling(**exact, tree=tree))

    return check


def _without_cancelling(gradient, z, p, conditional, tree):
    """Of the backward pass: roundings on the longest way to each answer, and its value if nothing cancelled."""
    upward, roundings = np.abs(gradient), np.zeros(len(tree), int)
    k, scale = np.empty(len(tree), int), np.empty_like(z)
    for question in (tree.questions[index] for index in tree.order[::-1]):
        own, n = question.columns, len(question.answers)
        through = (upward[own] * conditional[own]).sum(axis=0)
        parent = 1.0 if question.parent is None else p[question.parent]
        sums = np.where(z[own] > 0, z[own], 0).sum(axis=0) + oracle.EPSILON
        scale[own] = np.where(z[own] > 0, (upward[own] + through) * parent / sums, 0)
        k[own] = roundings[own].max() + n + 1 + (n + 1) + 2  # mean, difference, Σ + ε, quotient and product
        if question.parent is not None:
            upward[question.parent] += through
            roundings[question.parent] = max(roundings[question.parent], roundings[own].max() + n) + 1
    return k, scale


def around_the_ends(shape, seed):
    choices = np.array([-np.inf, -1, -0.0, 0, 1e-30, 0.5, 1, 1.5, np.inf, np.nan], np.float32)
    return choices[np.random.default_rng(seed).integers(0, len(choices), shape)]


def cases():
    for name, tree in TREES.items():
        batches = [(B, "normal") for B in (16, 1, 63, 65, 0)] + [(11, "alive"), (33, "nan"), (7, "dead"), (5, "tiny")]
        if name == "gz2":
            batches += [(len(RECORD["vectors"]), "golden"), (64 * 40 + 1, "normal")]
        for B, kind in batches:
            how = {"label": f"{name}-{kind}-B{B}", "quick": kind != "normal" or B < 17}
            yield Case(
                kernel="constraints_forward",
                inputs=lambda tree=tree, B=B, kind=kind: {"z": answers(tree, B, kind)},
                call=partial(constraints.forward, tree=tree),
                check=forward_within(tree),
                **how,
            )
            yield Case(
                kernel="constraints_backward",
                inputs=partial(backward_inputs, tree, B, kind),
                call=partial(constraints.backward, tree=tree),
                check=backward_within(tree),
                **how,
            )
    for shape in ((37, 16), (1, 1), (5, 257), (37, 0)):
        label = "x".join(map(str, shape))
        yield Case(
            kernel="constraints_clip_forward",
            label=label,
            inputs=lambda shape=shape: {"z": around_the_ends(shape, 0)},
            call=constraints.clip_forward,
            check=equals(oracle.clip_forward),
            quick=shape == (37, 16),
        )
        yield Case(
            kernel="constraints_clip_backward",
            label=label,
            inputs=lambda shape=shape: {"gradient": around_the_ends(shape, 1), "z": around_the_ends(shape, 2)},
            call=constraints.clip_backward,
            check=equals(oracle.clip_backward),
            quick=shape == (37, 16),
        )
