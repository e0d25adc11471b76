"""NVRTC of any version: pip installs it into a folder of its own, and it runs in processes of its own, one a core.

Two versions in one process would share their built-in functions. One process compiles one program at a time, however
many threads ask. Programs are kept on disk, by source, version, architecture and flags.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any

from gzkern.core.compile_cache import folder, keep
from gzkern.errors import GzkernError, InputError
from gzkern.runtime import nvrtc
from gzkern.runtime.nvrtc import FLAGS, Program
from gzkern.runtime.source import Source

HERE = "here"
"""The name of this environment's NVRTC, which is called through CuPy, as for launches."""

REQUIREMENTS = {
    "12.4": "nvidia-cuda-nvrtc-cu12==12.4.127",
    "12.9": "nvidia-cuda-nvrtc-cu12==12.9.86",
    "13.0": "nvidia-cuda-nvrtc==13.0.88",
    "newest": "nvidia-cuda-nvrtc>=13,<14",
}
"""Requirements for pip: the oldest and the newest NVRTC of the extras cuda12 and cuda13 in pyproject.toml."""


@dataclass(frozen=True)
class Compiled:
    """A program, and the CPU seconds in which it was compiled, now or when it was kept."""

    program: Program
    seconds: float


class Compiler:
    """One NVRTC, in processes that start with the first program; a context manager that ends them.

    Attributes:
        version: such as "13.0".
        architectures: compute capabilities, times ten, that it has machine code for.

    Args:
        name: of REQUIREMENTS, or HERE.

    Raises:
        InputError: it cannot be installed; with pip's reason.
    """

    def __init__(self, name: str) -> None:
        self._place = None if name == HERE else installed(REQUIREMENTS[name])
        self._pool = ProcessPoolExecutor(os.cpu_count(), multiprocessing.get_context("spawn"))
        self.version, self.architectures = self._pool.submit(_facts, self._place).result()

    def __enter__(self) -> Compiler:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._pool.shutdown(cancel_futures=True)

    def submit(self, source: Source, architecture: str) -> Future[Compiled]:
        """Compile, or read what is kept; the future raises GzkernError where the source does not compile."""
        parts = (source.text, self.version, architecture, *FLAGS)
        key = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:24]
        kept = folder("toolchains") / f"{Path(source.name).stem}-{architecture}-{self.version}-{key}.bin"
        return self._pool.submit(_compile, self._place, kept, source, architecture)


def installed(requirement: str) -> Path:
    """Install a package alone into a folder, unless it is there, and return the folder.

    Raises:
        InputError: pip fails; with its last line.
    """
    if ">=" in requirement:
        requirement = _resolved(requirement)
    place = folder("toolchains") / requirement.replace("==", "-")
    if not place.is_dir():
        with tempfile.TemporaryDirectory(dir=place.parent) as new:
            _pip("--target", f"{new}/package", requirement)
            with suppress(OSError):  # another process was sooner
                os.rename(f"{new}/package", place)
    return place


def _resolved(requirement: str) -> str:
    """Pin a requirement to the newest version that pip finds."""
    report = json.loads(_pip("--dry-run", "--ignore-installed", "--report", "-", requirement))
    metadata = report["install"][0]["metadata"]
    return f"{metadata['name']}=={metadata['version']}"


def _pip(*arguments: str) -> str:
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-deps"]
    done = subprocess.run([*pip, *arguments], capture_output=True, text=True)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["it says nothing"])[-1]
        raise InputError(f"pip cannot install {arguments[-1]}: {reason}")
    return done.stdout


def _facts(place: Path | None) -> tuple[str, list[int]]:
    """Return version and architectures; called in a process of the compiler's own."""
    if place is not None:
        return _library(place).version(), _library(place).architectures()
    from cupy.cuda import nvrtc as cupy_nvrtc

    return "{}.{}".format(*nvrtc.version()), cupy_nvrtc.getSupportedArchs()


def _compile(place: Path | None, kept: Path, source: Source, architecture: str) -> Compiled:
    """Compile in this process, unless the program is kept in a file; called in a process of the compiler's own."""
    compile_source = nvrtc.compile_source if place is None else _library(place).compile_source
    return _unpacked(keep(kept, lambda: _packed(compile_source, source, architecture)))


def _packed(compile_source: Callable[[Source, str], Program], source: Source, architecture: str) -> bytes:
    start = time.process_time()
    program = compile_source(source, architecture)
    head = {"seconds": time.process_time() - start, "ptx": program.ptx, "log": program.log}
    return zlib.compress(json.dumps(head).encode() + b"\n" + program.code)


def _unpacked(content: bytes) -> Compiled:
    head, _, code = zlib.decompress(content).partition(b"\n")
    facts = json.loads(head)
    return Compiled(Program(code, facts["ptx"], facts["log"]), facts["seconds"])


@cache
def _library(place: Path) -> _Library:
    return _Library(place)


class _Library:
    """The libnvrtc in a folder, loaded into this process for good, by the functions of NVIDIA's nvrtc.h."""

    def __init__(self, place: Path) -> None:
        for pattern, mode in (("libnvrtc-builtins.so.*", ctypes.RTLD_GLOBAL), ("libnvrtc.so.*", ctypes.DEFAULT_MODE)):
            (path,) = (each for each in place.rglob(pattern) if ".alt" not in each.name)
            self._nvrtc = ctypes.CDLL(str(path), mode)

    def version(self) -> str:
        major, minor = ctypes.c_int(), ctypes.c_int()
        self._check(self._nvrtc.nvrtcVersion(ctypes.byref(major), ctypes.byref(minor)))
        return f"{major.value}.{minor.value}"

    def architectures(self) -> list[int]:
        count = ctypes.c_int()
        self._check(self._nvrtc.nvrtcGetNumSupportedArchs(ctypes.byref(count)))
        found = (ctypes.c_int * count.value)()
        self._check(self._nvrtc.nvrtcGetSupportedArchs(found))
        return list(found)

    def compile_source(self, source: Source, architecture: str) -> Program:
        """Compile; as :func:`gzkern.runtime.nvrtc.compile_source`."""
        program = ctypes.c_void_p()
        text, name = source.text.encode(), source.name.encode()
        self._check(self._nvrtc.nvrtcCreateProgram(ctypes.byref(program), text, name, 0, None, None))
        flags = [each.encode() for each in (f"--gpu-architecture={architecture}", *FLAGS)]
        try:
            failed = self._nvrtc.nvrtcCompileProgram(program, len(flags), (ctypes.c_char_p * len(flags))(*flags))
            log = self._get("ProgramLog", program).rstrip(b"\0").decode()
            if failed:
                raise GzkernError(f"{source.name} does not compile for {architecture}:\n{log.strip()}")
            return Program(self._get("CUBIN", program), self._get("PTX", program).rstrip(b"\0").decode(), log)
        finally:
            self._nvrtc.nvrtcDestroyProgram(ctypes.byref(program))

    def _get(self, what: str, program: ctypes.c_void_p) -> bytes:
        size = ctypes.c_size_t()
        self._check(getattr(self._nvrtc, f"nvrtcGet{what}Size")(program, ctypes.byref(size)))
        content = ctypes.create_string_buffer(size.value)
        self._check(getattr(self._nvrtc, f"nvrtcGet{what}")(program, content))
        return content.raw

    def _check(self, status: Any) -> None:
        if status:
            raise GzkernError(f"NVRTC fails with status {status}")
