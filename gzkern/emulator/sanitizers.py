"""Processes in which kernels run under AddressSanitizer with UBSan, or under ThreadSanitizer."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from functools import cache
from pathlib import Path

from ..errors import InputError
from . import compiler

EXIT_CODE = 66
"""Of a process in which a sanitizer found something."""

_RUNTIMES = {"asan": ("libasan.so", "libubsan.so"), "tsan": ("libtsan.so",)}
_SYMBOL = {"asan": "__asan_init", "tsan": "__tsan_init"}
_OPTIONS = {
    # Python does not free all it allocates, and NumPy tries sizes that cannot be had.
    "asan": {
        "ASAN_OPTIONS": f"exitcode={EXIT_CODE}:detect_leaks=0:allocator_may_return_null=1",
        "UBSAN_OPTIONS": "print_stacktrace=1",
    },
    # BLAS is not instrumented: what its threads do looks like races.
    "tsan": {"TSAN_OPTIONS": f"exitcode={EXIT_CODE}", "OPENBLAS_NUM_THREADS": "1"},
}


def environment(mode: str) -> dict[str, str]:
    """The environment of a Python process in which ``backend.settings(mode=mode)`` works.

    Raises:
        InputError: the compiler comes without the sanitizer's runtime.
    """
    gxx = compiler.find().path
    libraries = [
        subprocess.run([gxx, f"-print-file-name={name}"], capture_output=True, text=True).stdout.strip()
        for name in _RUNTIMES[mode]
    ]
    missing = [library for library in libraries if not Path(library).is_absolute()]
    if missing:
        raise InputError(f"{gxx} comes without {' and '.join(missing)}, the runtime of a sanitizer")
    return {**os.environ, "LD_PRELOAD": " ".join(libraries), **_OPTIONS[mode]}


@cache
def prefix() -> tuple[str, ...]:
    """What to begin the command with: memory at fixed addresses, where that is allowed.

    The runtimes shipped with some compilers do not start, now and then, where addresses are as random as recent
    kernels make them.
    """
    command = shutil.which("setarch")
    if command and subprocess.run([command, "-R", "true"], capture_output=True).returncode == 0:
        return command, "-R"
    return ()


def require_runtime(mode: str) -> None:
    """See that this process began with the sanitizer's runtime; without it, loading a kernel would end the process.

    Raises:
        InputError: it did not; says how to start it.
    """
    if not hasattr(ctypes.CDLL(None), _SYMBOL[mode]):
        preload = environment(mode)["LD_PRELOAD"]
        raise InputError(f"mode {mode!r} needs a process that begins with its runtime: LD_PRELOAD={preload!r} python …")
