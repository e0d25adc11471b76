"""The output layer: raw answers to probabilities that obey the decision tree; ``kernels/constraints.cu``.

Arrays are (answers, B) float32.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from ..core import arguments
from ..decision_trees.tree import DecisionTree
from ..runtime.arrays import backend_of
from ..runtime.backend import Backend
from ..runtime.kernel import elementwise, kernel

FORWARD = kernel("constraints", "forward")
BACKWARD = kernel("constraints", "backward")
CLIP_FORWARD = kernel("constraints", "clip_forward")
CLIP_BACKWARD = kernel("constraints", "clip_backward")

_BLOCK = 64  # images; small, so that a few thousand are spread over many multiprocessors


def forward(z: Any, tree: DecisionTree) -> tuple[Any, Any]:
    """Raw answers z (A, B) to probabilities p (A, B), and the conditional q that the backward pass needs."""
    backend = backend_of("constraints", z=z)
    arguments.constraints_forward(z, len(tree.columns))
    B = z.shape[1]
    p, conditional = backend.empty(z.shape), backend.empty(z.shape)
    sizes = np.uint32(len(tree.questions)), np.uint32(B)
    FORWARD(backend, elementwise(B, _BLOCK), z, *_tables(tree, backend), p, conditional, *sizes)
    return p, conditional


def backward(gradient: Any, z: Any, p: Any, conditional: Any, tree: DecisionTree) -> Any:
    """dz (A, B) from the gradient of p; 0 where z ≤ 0, and through every factor of the tree."""
    arrays = {"gradient": gradient, "z": z, "p": p, "conditional": conditional}
    backend = backend_of("constraints", **arrays)
    arguments.constraints_backward(len(tree.columns), **arrays)
    A, B = gradient.shape
    dz = backend.empty(gradient.shape)
    sizes = np.uint32(A), np.uint32(len(tree.questions)), np.uint32(B)
    BACKWARD(backend, elementwise(B, _BLOCK), *arrays.values(), *_tables(tree, backend), dz, *sizes)
    return dz


def clip_forward(z: Any) -> Any:
    """min(max(z, 0), 1): the output of the warm-up, with neither normalisation nor tree."""
    backend = backend_of("constraints", z=z)
    y = backend.empty(z.shape)
    CLIP_FORWARD(backend, elementwise(z.size), z, y, np.uint32(z.size))
    return y


def clip_backward(gradient: Any, z: Any) -> Any:
    """The gradient where 0 < z < 1, else 0."""
    backend = backend_of("constraints", gradient=gradient, z=z)
    arguments.clip_backward(gradient, z)
    dz = backend.empty(z.shape)
    CLIP_BACKWARD(backend, elementwise(z.size), gradient, z, dz, np.uint32(z.size))
    return dz


def _tables(tree: DecisionTree, backend: Backend) -> tuple[Any, ...]:
    """``starts``, ``parents``, ``order`` on the device."""
    return tuple(backend.external(table, "decision tree") for table in _placed(tree, backend.home))


@lru_cache(maxsize=8)
def _placed(tree: DecisionTree, backend: Backend) -> tuple[Any, Any, Any]:
    return backend.asarray(tree.starts), backend.asarray(tree.parents), backend.asarray(tree.order)
