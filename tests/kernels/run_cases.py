"""Prove cases in this process, a line for each: for runs under a sanitizer, of the host or of a GPU.

python tests/kernels/run_cases.py [--device cuda] [--mode asan|tsan] [--quick] [ID…]

The sanitizers of the emulated device need their runtime from the process's start: see
gzkern/runtime/emulator/sanitizers.py.
"""

import argparse
import math
import sys
import time
import traceback
from contextlib import nullcontext
from pathlib import Path

KERNELS = Path(__file__).parent
sys.path[:0] = map(str, (KERNELS.parents[1], KERNELS.parent / "helpers", KERNELS / "conv2d", KERNELS / "dense"))

import harness  # noqa: E402
from collect import all_cases  # noqa: E402


def main(arguments=None):
    options = parse(arguments)
    cases = [case for case in all_cases() if not options.ids or case.id in options.ids]
    cases = [case for case in cases if case.quick or not options.quick]
    unknown = set(options.ids) - {case.id for case in cases}
    if unknown:
        print(f"no such cases: {', '.join(sorted(unknown))}")
        return 2
    if options.mode == "asan" or options.device == "cuda":
        harness.GUARD = 0  # arrays begin and end where their memory does, and the sanitizer guards them
    harness.POISON = not options.unset
    passed = failed = 0
    begin = time.monotonic()
    with backend_of(options) as backend:
        for case in cases:
            if time.monotonic() - begin > options.stop_after:
                break
            try:
                print(case.id, f"passed {harness.prove(case, backend):.3g}", flush=True)
                passed += 1
            except Exception:
                failed += 1
                print(case.id, "FAILED", flush=True)
                traceback.print_exc()
    not_reached = len(cases) - passed - failed
    print(f"{passed} of {len(cases)} cases passed" + (f", {not_reached} were not reached" if not_reached else ""))
    return 1 if failed else 0


def backend_of(options):
    """A context manager of the device that was asked for."""
    if options.device == "cuda":
        from gzkern.runtime.cuda_backend import backend
        from gzkern.runtime.gpu import require

        require()
        import cupy

        cupy.cuda.set_allocator(None)  # from a pool, a sanitizer sees no array's end
        return nullcontext(backend())
    from gzkern.runtime.emulator import backend

    return backend.settings(mode=options.mode, order=options.order, seed=options.seed, late_copies=options.late_copies)


def parse(arguments):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ids", nargs="*", metavar="ID", help="of cases (default: all)")
    parser.add_argument("--device", choices=("emulated", "cuda"), default="emulated")
    parser.add_argument("--quick", action="store_true", help="the quick cases alone")
    parser.add_argument("--unset", action="store_true", help="leave new arrays unset, for a sanitizer that looks at it")
    parser.add_argument("--stop-after", type=float, default=math.inf, metavar="SECONDS", help="begin no case after")
    emulated = parser.add_argument_group("on the emulated device")
    emulated.add_argument("--mode", choices=("fast", "asan", "tsan"), default="fast")
    emulated.add_argument("--order", choices=("forward", "reverse", "random"), default="forward")
    emulated.add_argument("--seed", type=int, default=0)
    emulated.add_argument("--late-copies", action="store_true")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
