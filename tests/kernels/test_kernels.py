"""Every kernel in every version against float64, emulated in all thread orders, and on a GPU where there is one.

``make test`` takes the quick cases in one random order; the slow tests are the full matrix.
"""

import os
import random

import compile_cases
import pytest
from collect import all_cases
from harness import assert_same_bits, prove, results_of

ORDERS = ("forward", "reverse", "random")
SEED = int(os.environ.get("GZKERN_SEED", random.SystemRandom().randrange(1 << 30)))


def each(cases):
    return pytest.mark.parametrize("case", [pytest.param(case, id=case.id) for case in cases])


def record(measured, device, case, error):
    measured.append({"device": device, "kernel": case.kernel, "proof": "float64", "error": error})


@pytest.mark.gxx
@each([case for case in all_cases() if case.quick])
def test_emulated_in_a_random_order(case, measured):
    from gzkern.runtime.emulator import backend

    print(f"GZKERN_SEED={SEED} repeats this order")
    with backend.settings(order="random", seed=SEED, late_copies=bool(SEED % 2)):
        record(measured, "emulated", case, prove(case, backend))


@pytest.mark.slow
@pytest.mark.gxx
@each(all_cases())
def test_emulated_in_every_order(case, measured):
    """Forward, reverse and random, with early and with late copies: right, and the same bits."""
    from gzkern.runtime.emulator import backend

    first = None
    for late in (False, True):
        for order in ORDERS:
            with backend.settings(order=order, seed=SEED, late_copies=late):
                results = results_of(case, backend)
            first = first or results
            for one, other in zip(first, results, strict=True):
                assert_same_bits(one, other, f"{order} order with {'late' if late else 'early'} copies")
    record(measured, "emulated", case, case.check(case.inputs(), first))


@pytest.mark.gxx
@each([case for case in all_cases() if case.quick and "_wgmma" in case.kernel and not case.kernel.endswith("_pack")])
def test_warpgroup_products_read_what_fences_have_published(case):
    """In mode "trace", which sees ordinary stores to shared memory too; the launch fails otherwise."""
    from gzkern.runtime.emulator import backend

    with backend.settings(mode="trace", order="random", seed=SEED, late_copies=True):
        case.check(case.inputs(), results_of(case, backend))
    assert any(call.startswith("wgmma") for launch in backend.trace() for call in launch.calls)


@pytest.mark.slow
@pytest.mark.parametrize("capability", [90, 89])
def test_kernels_of_the_cases_are_known_before_a_gpu_runs_them(capability):
    """So that a check on a GPU compiles them in a process a core."""
    from gzkern.runtime import source
    from gzkern.runtime.backend import Limits

    units = compile_cases.units(Limits(capability, 132, 227 << 10))
    assert len(set(units)) == len(units) > 100
    files = {file for file, _ in units}
    kernels = {kernel for file in files for kernel in source.load(file).kernels}
    unknown = {case.kernel for case in all_cases() if "wgmma" not in case.kernel} - kernels
    assert unknown == set()


@pytest.mark.gpu
@each(all_cases())
def test_on_a_gpu(case, measured):
    from gzkern.runtime.cuda_backend import backend

    if "wgmma" in case.kernel and backend().limits.capability != 90:
        pytest.skip("wgmma needs compute capability 9.0")
    record(measured, "cuda", case, prove(case, backend()))
