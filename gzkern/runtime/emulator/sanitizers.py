"""Python processes in which kernels run under AddressSanitizer with UBSan, or under ThreadSanitizer."""

from __future__ import annotations

import ctypes
import shlex
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

from ...errors import InputError
from . import compiler

EXIT_CODE = 66
"""Exit code of a process in which a sanitizer found something."""

_RUNTIMES = {"asan": ("libasan.so", "libubsan.so"), "tsan": ("libtsan.so",)}
MODES = tuple(_RUNTIMES)
_SYMBOLS = {"asan": "__asan_init", "tsan": "__tsan_init"}
_OPTIONS = {
    # Python does not free all it allocates, and NumPy tries sizes that cannot be had.
    "asan": (
        f"ASAN_OPTIONS=exitcode={EXIT_CODE}:detect_leaks=0:allocator_may_return_null=1",
        f"UBSAN_OPTIONS=exitcode={EXIT_CODE}:print_stacktrace=1",
    ),
    # BLAS is not instrumented: what its threads do looks like races.
    "tsan": (f"TSAN_OPTIONS=exitcode={EXIT_CODE}", "OPENBLAS_NUM_THREADS=1"),
}


def command(mode: str, *arguments: str) -> list[str]:
    """Python with these arguments, in a process where ``backend.settings(mode=mode)`` works.

    Raises:
        InputError: the compiler comes without the sanitizer's runtime.
    """
    runtimes = _runtimes(compiler.find().path, mode)
    return [*_fixed_addresses(), "env", f"LD_PRELOAD={' '.join(runtimes)}", *_OPTIONS[mode], sys.executable, *arguments]


def require_runtime(mode: str) -> None:
    """See that this process began with the sanitizer's runtime; without it, loading a kernel would end the process.

    Raises:
        InputError: it did not; says how to start it.
    """
    if not hasattr(ctypes.CDLL(None), _SYMBOLS[mode]):
        start = shlex.join(command(mode))
        raise InputError(f"mode {mode!r} needs a process that begins with the sanitizer's runtime; start it by {start}")


@cache
def _runtimes(gxx: str, mode: str) -> tuple[str, ...]:
    paths = tuple(
        subprocess.run([gxx, f"-print-file-name={name}"], capture_output=True, text=True).stdout.strip()
        for name in _RUNTIMES[mode]
    )
    missing = [path for path in paths if not Path(path).is_absolute()]
    if missing:
        raise InputError(f"{gxx} comes without {' and '.join(missing)}, which mode {mode!r} needs")
    return paths


@cache
def _fixed_addresses() -> tuple[str, ...]:
    """The first words of the command, where allowed: some runtimes do not start when addresses are very random."""
    setarch = shutil.which("setarch")
    if setarch and subprocess.run([setarch, "-R", "true"], capture_output=True).returncode == 0:
        return setarch, "-R"
    return ()
