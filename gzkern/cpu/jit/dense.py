"""The three products of a dense layer, float32, over the register tiles.

At the published batch of 16 they do nothing but stream the weights, so each reads or writes every weight once,
along its rows, and the small factor stays in cache. ``z`` here is (B, O): the transpose of the layer's output.
"""
# mypy: disable-error-code="no-untyped-def"

import numpy as np
from numba import prange

from . import compiled
from .tiles import inner, outer

COLUMNS = 1024  # outputs of one piece of the forward pass: 4 KB of each weight row
TERMS = 16  # inputs summed before a partial result goes to memory: rows read at once, as many as are prefetched
ROWS = 24  # inputs of one piece of the backward passes

_parallel = compiled(parallel=True)


@_parallel
def forward(x, weight, z):
    """z (B, O) from x (I, B) and weight (I, O)."""
    (inputs, B), outputs = x.shape, weight.shape[1]
    x_rows, w_rows = np.arange(inputs) * B, np.arange(inputs) * outputs
    flat_x, flat_w, flat_z = x.reshape(-1), weight.reshape(-1), z.reshape(-1)
    for piece in prange((outputs + COLUMNS - 1) // COLUMNS):
        o = piece * COLUMNS
        for i in range(0, inputs, TERMS):
            terms = min(TERMS, inputs - i)
            outer(
                flat_x, i * B, x_rows, B, flat_w, i * outputs + o, w_rows, terms,
                flat_z, o, outputs, min(COLUMNS, outputs - o), i > 0,
            )  # fmt: skip


@_parallel
def backward_data(weight, dz, dx):
    """dx (I, B) from weight (I, O) and dz (B, O)."""
    (inputs, outputs), B = weight.shape, dz.shape[0]
    w_rows = np.arange(inputs) * outputs
    flat_w, flat_z, flat_x = weight.reshape(-1), dz.reshape(-1), dx.reshape(-1)
    for piece in prange((inputs + ROWS - 1) // ROWS):
        first, last = piece * ROWS, min((piece + 1) * ROWS, inputs)
        flat_x[first * B : last * B] = 0
        inner(flat_w, 0, w_rows, first, last, flat_z, 0, outputs, B, outputs, flat_x, 0, B)


@_parallel
def backward_weights(x_t, dz, dweight):
    """dweight (I, O) from x_t (B, I) and dz (B, O)."""
    (B, inputs), outputs = x_t.shape, dz.shape[1]
    x_rows, z_rows = np.arange(B) * inputs, np.arange(B) * outputs
    flat_x, flat_z, flat_w = x_t.reshape(-1), dz.reshape(-1), dweight.reshape(-1)
    for piece in prange((inputs + ROWS - 1) // ROWS):
        i = piece * ROWS
        outer(
            flat_x, i, x_rows, min(ROWS, inputs - i), flat_z, 0, z_rows, B,
            flat_w, i * outputs, outputs, outputs, False,
        )  # fmt: skip
