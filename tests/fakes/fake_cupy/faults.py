"""Faults on purpose: ``FAKE_GPU_FAULT`` names one, or several with commas.

- ``hang:KERNEL``: a kernel of this name never ends;
- ``crash:KERNEL``: the process dies of SIGSEGV where such a kernel runs;
- ``nan:KERNEL``: it writes NaN instead of its numbers (of float32);
- ``illegal:KERNEL``: the context is broken from there on, by cudaErrorIllegalAddress;
- ``memory:BYTES``: the device has no more memory than that;
- ``nvrtc``, ``driver``: neither is installed;
- ``priorities``: the driver is too old to instantiate a graph by the priorities of its nodes.
"""

import os
import signal
import time

import numpy as np

from . import errors

_CHOSEN = dict(fault.partition(":")[::2] for fault in os.environ.get("FAKE_GPU_FAULT", "").split(",") if fault)
assert _CHOSEN.keys() <= {"hang", "crash", "nan", "illegal", "memory", "nvrtc", "driver", "priorities"}, _CHOSEN


def lacks(part):
    """Say whether this machine lacks NVRTC, a driver, or its newer functions."""
    return part in _CHOSEN


def memory_bytes():
    """The most memory that the device has; None: what the GPU has."""
    return int(_CHOSEN["memory"]) if "memory" in _CHOSEN else None


def run(kernel, launch, values):
    """Run a launch of this kernel with these arguments, or have it break."""
    chosen = {kind for kind, name in _CHOSEN.items() if name == kernel}
    while "hang" in chosen:
        time.sleep(0.1)
    if "crash" in chosen:
        os.kill(os.getpid(), signal.SIGSEGV)
    if "illegal" in chosen:
        return errors.break_context(errors.ILLEGAL_ADDRESS)
    before = _copies(values) if "nan" in chosen else []
    launch()
    for array, old in before:
        array[array.view(np.uint32) != old.view(np.uint32)] = np.nan


def _copies(values):
    return [(value, value.copy()) for value in values if isinstance(value, np.ndarray) and value.dtype == np.float32]
