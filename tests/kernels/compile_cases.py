"""Compile the kernels of all cases for this machine's GPU, a process a core, so that no test waits for NVRTC.

python tests/kernels/compile_cases.py

Nothing is launched: each case is recorded, and the recording names files and tiles.
"""

import sys
from pathlib import Path

import numpy as np

KERNELS = Path(__file__).parent
sys.path[:0] = map(str, (KERNELS.parents[1], KERNELS.parent / "helpers", KERNELS / "conv2d", KERNELS / "dense"))

from collect import all_cases  # noqa: E402

from gzkern.errors import GzkernError  # noqa: E402
from gzkern.runtime.capture import CapturingBackend, ShapeOnlyBackend  # noqa: E402


def main():
    from gzkern.runtime.cuda_backend import backend
    from gzkern.runtime.gpu import require

    require()
    gpu = backend()
    seconds = gpu.compile_all(units(gpu.limits))
    print(f"{len(seconds)} files and tiles, {sum(seconds.values()):.0f} s of compilation")
    return 0


def units(limits):
    """Files and tiles that the cases launch on a GPU of these limits, in the order of the cases."""
    found = {}
    for case in all_cases():
        capturing = CapturingBackend(ShapeOnlyBackend(limits))
        inputs = {name: capturing.external(np.asarray(array, order="C"), name) for name, array in case.inputs().items()}
        try:
            case.call(**inputs)
        except (AttributeError, GzkernError):  # no recording of this case, or no such kernel on this GPU
            continue
        found.update(dict.fromkeys((launch.kernel.file, launch.kernel.tile) for launch in capturing.finish()))
    return list(found)


if __name__ == "__main__":
    sys.exit(main())
