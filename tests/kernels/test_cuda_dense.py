"""How the dense layers cut their sums: enough blocks for a GPU, and no chain of additions over 4,096 terms."""

import numpy as np
import pytest

from gzkern.cuda import dense, launch

TILES = [dense._FORWARD_TILE, dense._WEIGHTS_TILE]


@pytest.mark.parametrize("tile", TILES)
@pytest.mark.parametrize("terms", [0, 1, 16, 127, 129, 4096, 4097, 8192, 100_003])
@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (37, 16), (4096, 16), (4096, 4096), (5, 0)])
def test_parts_cover_the_sum(tile, terms, rows, columns):
    part, parts = dense._parts(terms, rows, columns, tile)
    assert 0 < part <= 4096
    assert part % 16 == 0, "copies of four numbers begin at a part's first term"
    assert part * parts >= terms
    assert parts == 1 or part * (parts - 1) < terms, "a part without terms"


# The network's dense layers at batch 16, and the layer that each view has for itself: blocks of the three products.
@pytest.mark.parametrize(
    ("inputs", "outputs", "B", "blocks"),
    [
        (8192, 4096, 16, (512, 512, 4096)),
        (2048, 4096, 16, (256, 256, 1024)),
        (2048, 37, 16, (16, 8, 32)),
        (512, 1024, 256, (256, 256, 128)),
    ],
)
def test_blocks_of_the_network(monkeypatch, inputs, outputs, B, blocks):
    launches = {}

    class Recorder:
        def empty(self, shape, dtype=np.float32):
            return np.empty(shape, dtype)

        def get_function(self, file, kernel, tile=()):
            return lambda grid, block, arguments, shared: launches.setdefault(kernel, int(np.prod(grid)))

    monkeypatch.setattr(launch, "_backend", lambda home: Recorder())
    x, gradient = np.empty((inputs, B), np.float32), np.empty((outputs, B), np.float32)
    weight = np.empty((inputs, outputs), np.float32)
    dense.product(x, weight)
    dense.backward_data(weight, gradient)
    dense.backward_weights(x, gradient)
    products = [number for kernel, number in launches.items() if kernel.endswith(("tiled", "vectorised"))]
    assert tuple(products) == blocks
