"""The Nesterov update in one pass over weight and velocity; see gzkern.cpu.nesterov."""
# mypy: disable-error-code="no-untyped-def"

import numpy as np
from numba import prange

from . import compiled
from .tiles import outer

BLOCK = 1 << 16  # values of one piece; below that the start of a thread costs more than its work
ROWS = 8  # weight rows of one piece of the dense update: their gradient, 128 KB at 4,096 columns, stays in L2


@compiled()
def update_block(weight, velocity, gradient, lr, momentum):
    """v ← μ·v − η·g ; w ← w + μ·v − η·g, flat float32 arrays, one thread."""
    for i in range(weight.size):
        step = lr * gradient[i]
        v = momentum * velocity[i] - step
        velocity[i] = v
        weight[i] += momentum * v - step


@compiled(parallel=True)
def update(weight, velocity, gradient, lr, momentum):
    """:func:`update_block`, shared out to all threads."""
    for piece in prange((weight.size + BLOCK - 1) // BLOCK):
        part = slice(piece * BLOCK, min((piece + 1) * BLOCK, weight.size))
        update_block(weight[part], velocity[part], gradient[part], lr, momentum)


@compiled(parallel=True)
def update_outer(weight, velocity, rows, columns, lr, momentum):
    """The same for weight (I, O) whose gradient is rowsᵀ · columns, (B, I) and (B, O), and is never stored."""
    (B, inputs), outputs = rows.shape, columns.shape[1]
    row_offsets, column_offsets = np.arange(B) * inputs, np.arange(B) * outputs
    flat_rows, flat_columns = rows.reshape(-1), columns.reshape(-1)
    for piece in prange((inputs + ROWS - 1) // ROWS):
        first, last = piece * ROWS, min((piece + 1) * ROWS, inputs)
        gradient = np.empty((last - first) * outputs, np.float32)
        outer(
            flat_rows, first, row_offsets, last - first, flat_columns, 0, column_offsets, B,
            gradient, 0, outputs, outputs, False,
        )  # fmt: skip
        update_block(weight[first:last].reshape(-1), velocity[first:last].reshape(-1), gradient, lr, momentum)
