"""The emulated device finds bugs: each kernel of bugs.cu and bugs_wgmma.cu with its bug, and none corrected.

As a script (``MODE KERNEL``) it runs one kernel under a sanitizer, corrected and then with its bug.
"""

import sys
from pathlib import Path

import numpy as np
import pytest
from subprocesses import obstacle, require, start_all

from gzkern.errors import GzkernError
from gzkern.runtime.emulator import backend
from gzkern.runtime.kernel import Geometry, Kernel

pytestmark = pytest.mark.gxx
FILE, OF_WGMMA = (Path(__file__).with_name(name) for name in ("bugs.cu", "bugs_wgmma.cu"))
THREADS = 64
ORDERS = [{"order": "forward"}, {"order": "reverse"}, {"order": "random", "seed": 1}]
BLOCKS = {"bugs_race_between_blocks": 2}
DYNAMIC = {"bugs_dynamic_shared_index": THREADS, "bugs_unset_shared_memory": THREADS + 1}

ASAN = {  # what the report says, besides the file
    "bugs_global_index": "heap-buffer-overflow",
    "bugs_static_shared_index": "use-after-poison",
    "bugs_shared_row_index": "index 8 out of bounds",
    "bugs_dynamic_shared_index": "use-after-poison",
    "bugs_local_index": "index 8 out of bounds",
    "bugs_misaligned_vector": "misaligned address",
    "bugs_unaligned_tile": "misaligned address",
}
TSAN = (
    "bugs_missing_barrier",
    "bugs_missing_second_barrier",
    "bugs_missing_syncwarp",
    "bugs_race_between_blocks",
    "bugs_lost_additions",
    "bugs_wgmma_missing_barrier",
)
SCHEDULER = {
    "bugs_divergent_barrier": "deadlock: of 64 threads 16 have ended, 48 wait at __syncthreads",
    "bugs_two_barriers": r"is at __syncthreads in .*bugs\.cu\(\d+\) while others are at that in .*bugs\.cu\(\d+\)",
    "bugs_wrong_mask": "__shfl_xor_sync.* mask 0x0000fffe",
    "bugs_ended_lanes": "__shfl_xor_sync.* with mask 0xffffffff",
    "bugs_lane_outside_mask": r"to read lane \d+, which is not in the mask 0x0000ffff",
    "bugs_trap": r"__trap\(\) in .*bugs\.cu\(\d+\), reached by thread 7",
}


NEVER_TOGETHER = "threads of its warpgroup have ended|wait in wgmma.wait_group for their warpgroup in "
UNPUBLISHED = r"of shared memory, was written by thread \d+ without a fence_async of that thread and a barrier since"
WGMMA = {
    "bugs_wgmma_accumulator_in_flight": "its d was written before it was waited for",
    "bugs_wgmma_operand_in_flight": "its a was written before it was waited for",
    "bugs_wgmma_shared_in_flight": "its b was written while it was in flight",
    "bugs_wgmma_missing_fence": "no wgmma_fence before its first product",
    "bugs_wgmma_missing_second_fence": "its a was written after the last wgmma_fence",
    "bugs_wgmma_accumulator_after_fence": "its d was written after the last wgmma_fence",
    "bugs_wgmma_copies_without_fence": UNPUBLISHED,
    "bugs_wgmma_fence_of_one_thread": UNPUBLISHED,
    "bugs_wgmma_missing_barrier": "its b was written while it was in flight",
    "bugs_wgmma_divergent_lanes": r"at wgmma m64n16k8 in .*\(\d+\) while others of its warpgroup are at wgmma m64n16k8",
    "bugs_wgmma_divergent_warps": NEVER_TOGETHER,
    "bugs_wgmma_different_operands": "others of its warpgroup are at wgmma m64n16k8 .*, of another shared operand",
    "bugs_wgmma_two_warps": "its warpgroup has not all of its 128 threads",
    "bugs_wgmma_from_warp_two": NEVER_TOGETHER,
}
UNSEEN_RESULTS = ("bugs_wgmma_missing_wait", "bugs_wgmma_short_wait", "bugs_wgmma_missing_commit")
WGMMA_THREADS = {"bugs_wgmma_two_warps": 192, "bugs_wgmma_from_warp_two": 256}


def run(kernel, correct, **settings):
    """y of one launch; both arrays end where their memory does."""
    if kernel.startswith("bugs_wgmma"):
        return run_wgmma(kernel, correct, **settings)
    x, y = np.arange(1, THREADS + 1, dtype=np.float32), np.full(THREADS, -1, np.float32)
    geometry = Geometry((BLOCKS.get(kernel, 1),), (THREADS,), 4 * DYNAMIC.get(kernel, 0))
    with backend.settings(**settings):
        Kernel(FILE, kernel)(backend, geometry, x, y, np.int32(correct))
    return y


def run_wgmma(kernel, correct, **settings):
    """y, which is right if it is there."""
    rng = np.random.default_rng(0)
    a, b = (rng.integers(-9, 10, shape).astype(np.float32) for shape in ((64, 8), (8, 16)))
    tiles = b.reshape(2, 4, 2, 8).transpose(2, 0, 3, 1)  # by eight columns and four rows; a column's rows side by side
    x, y = np.concatenate([a.ravel(), tiles.ravel()]), np.full((64, 16), -1, np.float32)
    with backend.settings(**settings):
        Kernel(OF_WGMMA, kernel)(backend, Geometry((1,), (WGMMA_THREADS.get(kernel, 128),)), x, y, np.int32(correct))
    there = ~np.isnan(y)
    np.testing.assert_array_equal(y[there], (a @ b)[there])
    return y


def results(kernel, correct, **settings):
    """y in every order of the threads."""
    return [run(kernel, correct, **order, **settings) for order in ORDERS]


def agree(several):
    return all(np.array_equal(several[0], other, equal_nan=True) for other in several)


@pytest.mark.parametrize("kernel", ["bugs_missing_barrier", "bugs_missing_second_barrier", "bugs_missing_syncwarp"])
def test_orders_of_threads_disagree_without_a_barrier(kernel):
    assert not agree(results(kernel, correct=False))
    assert agree(results(kernel, correct=True))


def test_late_copies_show_a_missing_wait():
    kernel, expected = "bugs_missing_wait", np.arange(THREADS, 0, -1, dtype=np.float32)
    np.testing.assert_array_equal(run(kernel, correct=False), expected)  # early copies hide it
    assert np.isnan(run(kernel, correct=False, late_copies=True)).all()
    np.testing.assert_array_equal(run(kernel, correct=True, late_copies=True), expected)


def test_unset_shared_memory_is_nan():
    assert np.isnan(run("bugs_unset_shared_memory", correct=False)).all()
    assert not np.isnan(run("bugs_unset_shared_memory", correct=True)).any()


@pytest.mark.parametrize("kernel", SCHEDULER)
@pytest.mark.parametrize("settings", ORDERS, ids=lambda settings: settings["order"])
def test_scheduler_reports(kernel, settings):
    run(kernel, correct=True, **settings)
    with pytest.raises(GzkernError, match=rf"{kernel}: block \(0, 0, 0\): .*{SCHEDULER[kernel]}"):
        run(kernel, correct=False, **settings)
    run(kernel, correct=True, **settings)  # nothing is left of the failure


@pytest.mark.parametrize("kernel", WGMMA)
@pytest.mark.parametrize("settings", ORDERS, ids=lambda settings: settings["order"])
def test_launch_fails_by_wgmma(kernel, settings):
    assert not np.isnan(run(kernel, correct=True, **settings)).any()
    with pytest.raises(GzkernError, match=rf"{kernel}: block \(0, 0, 0\): .*({WGMMA[kernel]})"):
        run(kernel, correct=False, **settings)
    assert not np.isnan(run(kernel, correct=True, **settings)).any()  # nothing is left of the failure


@pytest.mark.parametrize("kernel", UNSEEN_RESULTS)
def test_results_of_wgmma_are_nan_until_the_wait(kernel):
    assert np.isnan(results(kernel, correct=False)).all()
    assert not np.isnan(results(kernel, correct=True)).any()


def test_late_copies_show_a_fence_before_them():
    kernel = "bugs_wgmma_fence_before_copies"
    run(kernel, correct=True, late_copies=True)
    with pytest.raises(GzkernError, match=UNPUBLISHED):
        run(kernel, correct=False, late_copies=True)


@pytest.mark.parametrize("settings", ORDERS, ids=lambda settings: settings["order"])
def test_the_memory_trace_shows_stores_without_a_fence(settings):
    kernel = "bugs_wgmma_stores_without_fence"
    assert not np.isnan(run(kernel, correct=False, **settings)).any()  # the fast mode does not see them
    run(kernel, correct=True, mode="trace", **settings)
    with pytest.raises(GzkernError, match=rf"byte 0 of its b, at \d+ {UNPUBLISHED}"):
        run(kernel, correct=False, mode="trace", **settings)


@pytest.fixture(scope="module")
def reports(request):
    """What the sanitizers' processes that this session's tests ask for said."""
    asked = [item.callspec.params for item in request.session.items if "reports" in getattr(item, "fixturenames", ())]
    keys = [(test["mode"], test["kernel"]) for test in asked if not obstacle(test["mode"])]
    for mode in {mode for mode, _ in keys}:
        backend.compile_all([(FILE, ()), (OF_WGMMA, ())], mode)  # once, before processes that would each do so
    return start_all({key: (key[0], __file__, *key) for key in keys})


@pytest.mark.parametrize(
    ("mode", "kernel"), [*(("asan", kernel) for kernel in ASAN), *(("tsan", kernel) for kernel in TSAN)]
)
def test_sanitizer_reports(mode, kernel, reports):
    require(mode)
    report = reports[mode, kernel].result().stdout
    before, corrected, after = report.partition("corrected form passed")
    assert corrected, before
    assert "ERROR" not in before
    assert "WARNING" not in before
    assert ASAN.get(kernel, "data race") in after, report
    assert "bugs.cu" in after or "bugs_wgmma.cu" in after
    assert "bug missed" not in after or mode == "tsan"  # which goes on


def main(mode, kernel):
    run(kernel, correct=True, mode=mode)
    print("corrected form passed", flush=True)
    run(kernel, correct=False, mode=mode)
    print("bug missed", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
