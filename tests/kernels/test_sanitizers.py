"""The kernels under AddressSanitizer with UBSan, and those with shared memory under ThreadSanitizer.

A process a .cu file and mode, two or more at a time. ``make test`` takes the quick cases, and of ThreadSanitizer one a
file, but for those that compile the longest; the slow tests are all cases, and one of every kernel.
"""

from pathlib import Path

import pytest
from collect import all_cases
from subprocesses import require, start_all

from benchmarks.profile import kernel_resources
from gzkern.runtime import source

pytestmark = pytest.mark.gxx
RUN_CASES = str(Path(__file__).with_name("run_cases.py"))
SEED = "1"


def file_of(case):
    """The stem that the kernel's name begins with: of kernels/, else of a file beside this one."""
    stems = [stem for stem in source.stems() if case.kernel.startswith(stem.replace("/", "_"))]
    return max(stems, key=len, default=case.kernel.partition("_")[0])


def by_file(cases):
    files = {}
    for case in cases:
        files.setdefault(file_of(case), []).append(case)
    return files


def first(cases):
    """The first case of every kernel."""
    return list({case.kernel: case for case in reversed(cases)}.values())[::-1]


CASES = by_file(all_cases())
SHARED = by_file(case for case in all_cases() if case.shared and case.quick)
SLOW = ("_specialised", "_wgmma")
assert all(any(file.endswith(suffix) for file in SHARED) for suffix in SLOW), "a suffix that no file has"
SELECTIONS = {
    "asan-quick": {file: [case for case in cases if case.quick] for file, cases in CASES.items()},
    "asan-all": CASES,
    "tsan-quick": {file: cases[:1] for file, cases in SHARED.items() if not file.endswith(SLOW)},
    "tsan-all": {file: first(cases) for file, cases in SHARED.items()},
}


def each(selection):
    return pytest.mark.parametrize(("selection", "file"), [(selection, file) for file in SELECTIONS[selection]])


@pytest.fixture(scope="module")
def runs(request):
    """The processes of all tests of this session, under way."""
    tests = [item.callspec.params for item in request.session.items if "runs" in getattr(item, "fixturenames", ())]
    commands = {}
    for selection, file in ((test["selection"], test["file"]) for test in tests):
        mode = selection.partition("-")[0]
        ids = [case.id for case in SELECTIONS[selection][file]]
        order = ("--order", "random", "--seed", SEED, "--late-copies")
        commands[selection, file] = (mode, RUN_CASES, "--mode", mode, *order, *ids)
    return start_all(commands)


def assert_nothing_found(selection, file, runs, measured):
    mode = selection.partition("-")[0]
    require(mode)
    process = runs[selection, file].result()
    assert process.returncode == 0, process.stdout[-10000:]
    assert "cases passed" in process.stdout
    if selection.endswith("-all"):
        measured += [
            {"device": "emulated", "kernel": case.kernel, "proof": mode} for case in SELECTIONS[selection][file]
        ]


@each("asan-quick")
def test_address_sanitizer(selection, file, runs, measured):
    assert_nothing_found(selection, file, runs, measured)


@each("tsan-quick")
def test_thread_sanitizer(selection, file, runs, measured):
    assert_nothing_found(selection, file, runs, measured)


@pytest.mark.slow
@each("asan-all")
def test_address_sanitizer_on_all_cases(selection, file, runs, measured):
    assert_nothing_found(selection, file, runs, measured)


@pytest.mark.slow
@each("tsan-all")
def test_thread_sanitizer_on_every_kernel(selection, file, runs, measured):
    assert_nothing_found(selection, file, runs, measured)


def test_every_kernel_with_shared_memory_has_a_small_case():
    """Else ThreadSanitizer would leave it out."""
    static = {
        row.kernel
        for version in kernel_resources.recorded_versions()
        for row in kernel_resources.read(version).values()
        if row.shared
    }
    dynamic = {
        kernel
        for stem in source.stems()
        if "extern __shared__" in source.load(stem).text
        for kernel in source.load(stem).kernels
        if not kernel.endswith(("_naive", "_pack"))
    }
    assert static | dynamic <= {case.kernel for cases in SHARED.values() for case in cases}
