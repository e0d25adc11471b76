"""The output layer: raw answers to probabilities that obey the decision tree (paper, output constraints).

With r = max(z, 0), an answer's conditional probability is q = r / (Σ of its question's r + ε), and its probability
p = q · (p of the answer that leads to the question). The warm-up form is a plain clip to [0, 1].
Arrays are (answers, B), any float dtype; there are 37 rows, so NumPy is as fast as anything.
"""

from __future__ import annotations

import numpy as np

from ..core import arguments
from ..decision_trees.tree import DecisionTree

EPSILON = 1e-12


def forward(z: np.ndarray, tree: DecisionTree) -> tuple[np.ndarray, np.ndarray]:
    """Raw answers z (A, B) to probabilities p (A, B), and the conditional q that the backward pass needs."""
    arguments.host_arrays("constraints", z=z)
    arguments.constraints_forward(z, len(tree.columns))
    rectified = np.where(z < 0, z.dtype.type(0), z)
    sums = np.add.reduceat(rectified, tree.starts[:-1], axis=0) + z.dtype.type(EPSILON)
    conditional = rectified / sums[tree.question_of]
    p = conditional.copy()
    for index in tree.order:
        question = tree.questions[index]
        if question.parent is not None:
            p[question.columns] *= p[question.parent]
    return p, conditional


def backward(
    gradient: np.ndarray, z: np.ndarray, p: np.ndarray, conditional: np.ndarray, tree: DecisionTree
) -> np.ndarray:
    """dz (A, B) from the gradient of p; 0 where z ≤ 0, and through every factor of the tree."""
    arrays = {"z": z, "p": p, "conditional": conditional}
    arguments.host_arrays("constraints", gradient=gradient, **arrays)
    arguments.constraints_backward(len(tree.columns), gradient, **arrays)
    upward = gradient.copy()  # of p; children add to their parent's answer before it is used
    dq = np.empty_like(gradient)
    for index in tree.order[::-1]:
        question = tree.questions[index]
        own = upward[question.columns]
        if question.parent is None:
            dq[question.columns] = own
        else:
            dq[question.columns] = own * p[question.parent]
            upward[question.parent] += (own * conditional[question.columns]).sum(axis=0)
    positive = z > 0
    rectified = np.where(positive, z, z.dtype.type(0))
    sums = np.add.reduceat(rectified, tree.starts[:-1], axis=0) + z.dtype.type(EPSILON)
    mean = np.add.reduceat(dq * conditional, tree.starts[:-1], axis=0)
    dz = (dq - mean[tree.question_of]) / sums[tree.question_of]
    return np.where(positive, dz, z.dtype.type(0))


def clip_forward(z: np.ndarray) -> np.ndarray:
    """min(max(z, 0), 1): the output of the warm-up, with neither normalisation nor tree."""
    arguments.host_arrays("constraints", z=z)
    return np.clip(z, 0, 1)


def clip_backward(gradient: np.ndarray, z: np.ndarray) -> np.ndarray:
    """The gradient where 0 < z < 1, else 0."""
    arguments.host_arrays("constraints", gradient=gradient, z=z)
    arguments.clip_backward(gradient, z)
    return np.where((z > 0) & (z < 1), gradient, gradient.dtype.type(0))
