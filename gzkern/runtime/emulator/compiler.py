"""g++: found, its version checked; what it compiled is kept on disk."""

from __future__ import annotations

import functools
import hashlib
import os
import platform
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from ...core import compile_cache as cache
from ...errors import GzkernError, InputError
from .. import source
from .translate import translate

OLDEST = 12
"""The first major version of g++ with all of C++20 that the headers need."""

_INCLUDE = Path(__file__).parent / "include"
_COMMANDS = ("g++", *(f"g++-{version}" for version in range(20, OLDEST - 1, -1)))
_COMMON = (
    *("-std=c++20", "-shared", "-fPIC", "-pthread", "-fno-exceptions", "-fno-rtti"),
    *("-march=native", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math"),  # none changes a result
    *("-fvisibility=hidden", "-fno-gnu-unique"),  # libraries in one process share nothing
    *("-Wno-unknown-pragmas", "-fmax-errors=3", "-fdiagnostics-color=never"),
)
_MODES = {
    # A frame must leave room on its stack, of which include/block.hpp says the size.
    "fast": ("-O3", "-Werror=frame-larger-than=32768"),
    "asan": (
        *("-O1", "-g", "-fno-omit-frame-pointer", "-Werror=frame-larger-than=131072"),
        *("-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"),
    ),
    # Without optimisation, which would split accesses; -fsanitize=thread calls trace.hpp, not its own runtime.
    "trace": (
        *("-O0", "-g", "-fno-omit-frame-pointer", "-Werror=frame-larger-than=131072", "-DEMULATION_TRACE"),
        *("-fsanitize=thread", "--param=tsan-instrument-func-entry-exit=0", "-nodefaultlibs"),
    ),
    "tsan": ("-O1", "-g", "-fsanitize=thread", "-Werror=frame-larger-than=32768"),
}
_LIBRARIES = {"trace": ("-lm", "-lc", "-lgcc_s", "-lgcc")}
MODES = tuple(_MODES)


@dataclass(frozen=True)
class Compiler:
    """A usable g++."""

    path: str
    version: str


@functools.cache
def find() -> Compiler:
    """The first g++ on the PATH that is new enough.

    Raises:
        InputError: there is none; says how to install one.
    """
    found = []
    for command in _COMMANDS:
        path = shutil.which(command)
        version = _version(path) if path else None
        if path and version and int(version.partition(".")[0]) >= OLDEST:
            return Compiler(path, version)
        if version:
            found.append(version)
    got = f"the PATH has {' and '.join(found)}" if found else "none is on the PATH"
    raise InputError(
        f"the emulated device needs g++ {OLDEST} or newer, and {got}; install one, on Debian or Ubuntu: apt install g++"
    )


def compile_source(code: source.Source, mode: str) -> Path:
    """A .cu file as a shared library, compiled unless the cache has it.

    Raises:
        GzkernError: the file does not compile; with the compiler's lines.
        InputError: no compiler.
    """
    compiler = find()
    text = translate(code, unroll=mode == "fast")  # unrolled checks of a sanitizer take minutes to compile
    command = [compiler.path, *_COMMON, *_MODES[mode], *_machine_flags(), f"-I{_INCLUDE}"]
    key = hashlib.sha256("\0".join([text, _headers(), compiler.version, *command, _cpu()]).encode()).hexdigest()[:24]
    folder = cache.folder("emulator")
    library = folder / f"{Path(code.name).stem}-{mode}-{key}.so"
    if library.exists():
        library.touch()
        return library
    with tempfile.TemporaryDirectory(dir=folder) as work:
        unit, result = Path(work, "unit.cpp"), Path(work, "unit.so")
        unit.write_text(text, encoding="utf-8")
        here = source.folder().parent  # where the names in #line lead to, so that the compiler shows those lines
        run = subprocess.run(
            [*command, f"-fdebug-prefix-map={here}/=", str(unit), "-o", str(result), *_LIBRARIES.get(mode, ())],
            cwd=here,
            env={**os.environ, "LC_ALL": "C", "LD_PRELOAD": ""},
            capture_output=True,
            text=True,
        )
        if run.returncode:
            raise GzkernError(f"{code.name} does not compile for the emulated device:\n{_errors(run.stderr)}")
        os.replace(result, library)
    return library


def _version(path: str) -> str | None:
    """Version of a g++; None for another compiler behind that name."""
    run = subprocess.run([path, "-dumpfullversion"], capture_output=True, text=True)
    return run.stdout.strip() if run.returncode == 0 and re.match(r"\d+\.", run.stdout) else None


@functools.cache
def _headers() -> str:
    return "".join(header.read_text(encoding="utf-8") for header in sorted(_INCLUDE.glob("*.hpp")))


@functools.cache
def _cpu() -> str:
    """The processor's features, which ``-march=native`` depends on."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").split("\n\n")[0].splitlines()
    except OSError:
        return platform.processor()
    return "".join(line for line in lines if line.startswith(("flags", "Features", "model name", "CPU part")))


def _machine_flags() -> list[str]:
    """The switch of stacks is no call that a shadow stack would follow."""
    return ["-fcf-protection=none"] if platform.machine() == "x86_64" else []


def _errors(output: str) -> str:
    """The compiler's errors, the source lines below each, and which line of a kernel led to one in a header."""
    kept, snippet = [], False
    for line in output.splitlines():
        if not re.match(r"\s+(\d+ )?\|", line):
            snippet = "error: " in line
            if snippet or "required from here" in line or "in expansion of macro" in line:
                kept.append(line)
        elif snippet:
            kept.append(line)
    return "\n".join(kept) or output.strip()
