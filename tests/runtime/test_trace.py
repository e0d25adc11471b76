"""The memory trace against requests, sectors and wavefronts that are counted by hand."""

from pathlib import Path

import numpy as np
import pytest

from gzkern.runtime.emulator import backend
from gzkern.runtime.emulator.trace import spread
from gzkern.runtime.kernel import Geometry, Kernel

pytestmark = pytest.mark.gxx
FILE = Path(__file__).with_name("traced.cu")


def line_of(text):
    """The only line of the kernels that has this text, as the trace names it."""
    (number,) = (n for n, line in enumerate(FILE.read_text().splitlines(), 1) if text in line)
    return f"{FILE.name}:{number}"


def trace(kernel, *arguments, grid=1, **settings):
    backend.trace()  # forget the launches of other tests
    with backend.settings(mode="trace", **settings):
        Kernel(FILE, kernel)(backend, Geometry((grid,), (32,)), *arguments)
    (launch,) = backend.trace()
    return launch


def costs(launch, space, *kinds):
    """Requests, cost and ideal of all accesses of a kind."""
    return tuple(launch.total(what, space, *kinds) for what in ("requests", "cost", "ideal"))


def floats(count=4096):
    return np.zeros(count, np.float32)


@pytest.mark.parametrize(
    ("first", "stride", "sectors", "ideal"),
    [
        (0, 1, 4, 4),  # 128 bytes
        (1, 1, 5, 4),  # the same, four bytes later
        (8, 1, 4, 4),  # a whole sector later
        (0, 2, 8, 4),
        (0, 8, 32, 4),  # a sector a lane
        (0, 33, 32, 4),
        (5, 0, 1, 1),  # all lanes the same number
    ],
)
def test_sectors_of_strided_loads(first, stride, sectors, ideal):
    launch = trace("traced_strided", floats(), floats(), np.uint32(first), np.uint32(stride))
    assert costs(launch, "global", "load") == (1, sectors, ideal)
    assert costs(launch, "global", "store") == (1, 4, 4)
    assert launch.total("bytes", "global", "load") == 128
    assert costs(launch, "shared") == (0, 0, 0)


@pytest.mark.parametrize(("first", "sectors"), [(0, 16), (1, 17), (2, 16)])
def test_a_load_of_four_floats_is_one_request(first, sectors):
    x = np.zeros((40, 4), np.float32)
    launch = trace("traced_vectors", x, np.zeros_like(x), np.uint32(first))
    assert costs(launch, "global", "load") == (1, sectors, 16)
    assert [access.width for access in launch.accesses] == [16, 16]


def test_a_vector_is_stored_at_once():
    launch = trace("traced_made", floats())
    assert costs(launch, "global") == (1, 8, 8)


def test_rows_that_begin_between_sectors():
    """They begin 0, 20, 8, 28, 16, 4, 24, 12 bytes behind one: the first row touches four sectors, the others five."""
    launch = trace("traced_rows", floats(), floats(), np.uint32(8), np.uint32(45))
    assert costs(launch, "global", "load") == (8, 4 + 7 * 5, 32)
    assert costs(launch, "global", "store") == (8, 32, 32)


@pytest.mark.parametrize(("kernel", "conflicts"), [("traced_transpose", 32), ("traced_transpose_padded", 1)])
def test_transposition_in_shared_memory(kernel, conflicts):
    launch = trace(kernel, floats(), floats())
    assert costs(launch, "shared", "store") == (32, 32, 32)
    assert costs(launch, "shared", "load") == (32, 32 * conflicts, 32)
    assert costs(launch, "global") == (64, 256, 256)
    assert launch.barriers == 1


@pytest.mark.parametrize(
    ("bytes_", "stride", "wavefronts", "phases"),
    [
        (1, 1, 1, 1),  # 32 bytes: 8 banks, a word each
        (1, 8, 2, 1),  # 64 words
        (4, 1, 1, 1),
        (4, 0, 1, 1),  # a broadcast
        (4, 2, 2, 1),
        (4, 4, 4, 1),
        (4, 3, 1, 1),  # 3 and 32 have no common divisor
        (8, 1, 2, 2),
        (8, 2, 4, 2),
        (8, 0, 2, 2),
        (16, 1, 4, 4),
        (16, 2, 8, 4),
        (16, 3, 4, 4),
        (16, 0, 4, 4),
    ],
)
def test_bank_conflicts(bytes_, stride, wavefronts, phases):
    launch = trace(f"traced_shared{bytes_}", floats(), np.uint32(stride))
    assert costs(launch, "shared", "load") == (1, wavefronts, phases)
    assert launch.total("bytes", "shared", "load") == 32 * bytes_


@pytest.mark.parametrize(
    ("valid", "requests", "sectors", "ideal"),
    [(16, 1, 16, 16), (8, 1, 16, 8), (0, 0, 0, 0)],  # 8: the first half of every 16 bytes
)
def test_asynchronous_copies(valid, requests, sectors, ideal):
    launch = trace("traced_copy", floats(), floats(), np.uint32(valid))
    assert costs(launch, "global", "copy") == (requests, sectors, ideal)
    assert costs(launch, "shared", "copy") == (1, 4, 4)
    assert costs(launch, "shared", "load") == (1, 1, 1)
    assert launch.total("bytes", "global", "copy") == 32 * valid


def test_copies_of_nothing_take_their_turn():
    """Sixteen lanes a turn, each half a sector: not the lanes of two turns together."""
    launch = trace("traced_turns", floats(), floats(), np.uint32(4))
    assert costs(launch, "global", "copy") == (4, 4 * 16, 4 * 8)
    assert launch.total("lanes", "global", "copy") == 4 * 16
    assert costs(launch, "shared", "copy") == (4, 16, 16)


@pytest.mark.parametrize(("stride", "wavefronts"), [(8, 4), (64, 32), (40, 4)])
def test_matrices_are_loads_and_products_are_not(stride, wavefronts):
    launch = trace("traced_matrices", floats(), np.uint32(stride))
    assert costs(launch, "shared") == (1, wavefronts, 4)
    assert costs(launch, "global") == (1, 4, 4)
    assert launch.calls == {"ldmatrix": 32, "mma.sync m16n8k8": 32}


@pytest.mark.parametrize("order", ["forward", "reverse", "random"])
def test_lanes_that_take_part(order):
    """Turn i has the lanes above i, the last one lane 31 alone; a lane without a turn asks for nothing."""
    launch = trace("traced_divergent", floats(), floats(), order=order)
    assert costs(launch, "global", "load")[0] == 31
    assert launch.total("lanes", "global", "load") == launch.multiply_adds == 31 * 32 // 2
    assert costs(launch, "global", "store") == (1, 4, 2)


def test_what_was_just_loaded_is_kept():
    """Read twice, then, behind a store, once more."""
    launch = trace("traced_twice", floats(), floats())
    assert costs(launch, "global", "load") == (2, 8, 8)
    assert costs(launch, "global", "store") == (2, 8, 8)


def test_products_of_matrices_are_no_multiply_adds_of_the_kernel():
    assert trace("traced_matrices", floats(), np.uint32(8)).multiply_adds == 0


def test_lines_and_arrays():
    launch = trace("traced_transpose", floats(), floats())
    call, load, store = (
        line_of("traced_transpose(const"),
        line_of("tile[row][threadIdx.x]"),
        line_of("tile[threadIdx.x][row]"),
    )
    found = [(tuple(Path(line).name for line in each.where), each.space, each.argument) for each in launch.accesses]
    assert found == [
        ((call, load), "global", 0),
        ((call, load), "shared", None),
        ((call, store), "shared", None),
        ((call, store), "global", 1),
    ]
    assert launch.arguments == (((4096,), "float32"), ((4096,), "float32"))


def test_some_blocks_of_a_grid():
    count = np.zeros(1, np.uint32)
    launch = trace("traced_sum", floats(), count, floats(), grid=100, blocks=3)
    assert launch.blocks == count[0] // 32 == 3
    assert costs(launch, "global", "atomic") == (3, 3, 3)
    assert (launch.loaded_sectors, launch.stored_sectors) == (3 * 2, 3 * 5)
    assert backend.trace() == []


def test_blocks_are_spread():
    assert spread(3, 100) == [11, 35, 73]
    assert spread(5, 4) == [0, 1, 2, 3]


def test_results_are_those_of_the_fast_mode():
    x, y, again = np.arange(1024, dtype=np.float32), floats(1024), floats(1024)
    trace("traced_transpose", x, y)
    Kernel(FILE, "traced_transpose")(backend, Geometry((1,), (32,)), x, again)
    np.testing.assert_array_equal(y, again)
    np.testing.assert_array_equal(y.reshape(32, 32), x.reshape(32, 32).T)
