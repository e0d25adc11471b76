"""NVRTC: a source as the code of a GPU's architecture. It needs CuPy, which finds the compiler, and no GPU."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from ..core import compile_cache as cache
from ..errors import GzkernError
from .source import Source, load

OLDEST = 80
"""The first compute capability, times ten, with the asynchronous copies that the kernels use."""

FLAGS = ("--std=c++17", "--device-as-default-execution-space", "--generate-line-info", "--ptxas-options=-v")


@dataclass(frozen=True)
class Program:
    """The result of compiling a source.

    ``code`` is machine code (a cubin), or PTX for an architecture that begins with ``compute``. ``log`` has the
    warnings, and for machine code what each kernel takes of registers and memory.
    """

    code: bytes
    ptx: str
    log: str


def version() -> tuple[int, int]:
    """Major and minor version of the compiler; an exception of CuPy's where there is none."""
    from cupy.cuda import nvrtc

    major, minor = nvrtc.getVersion()
    return major, minor


def missing() -> str | None:
    """Say why nothing can be compiled here, or None where NVRTC answers.

    CuPy raises more than ImportError where it is installed and unusable: OSError in a home that cannot be written to,
    ValueError or AttributeError beside a NumPy of another binary interface, RuntimeError without the library.
    """
    try:
        version()
    except Exception as error:
        return str(error).strip().partition("\n")[0]
    return None


def architecture(capability: int) -> str:
    """The architecture to compile for, of a GPU with this compute capability times ten.

    A GPU that the compiler does not know gets the machine code of an older one of its generation, else PTX, which
    its driver translates. ``sm_90a`` has the instructions that only 9.0 has.
    """
    from cupy.cuda import nvrtc

    return _nearest(capability, nvrtc.getSupportedArchs())


def _nearest(capability: int, known: Collection[int]) -> str:
    if capability in known:
        return "sm_90a" if capability == 90 else f"sm_{capability}"
    older = max(each for each in known if each < capability)
    return f"{'sm' if older // 10 == capability // 10 else 'compute'}_{older}"


def image(source: Source, architecture: str) -> bytes:
    """The code that the driver loads, compiled unless the cache on disk has it.

    Raises:
        GzkernError: the source does not compile; with the compiler's lines.
    """
    parts = (source.text, str(version()), architecture, *FLAGS)
    key = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:24]
    path = cache.folder("cuda") / f"{Path(source.name).stem}-{architecture}-{key}.bin"
    return cache.keep(path, lambda: compile_source(source, architecture).code)


def compile_unit(file: str | Path, tile: tuple[int, ...], architecture: str) -> float:
    """Compile a file with a tile into the cache on disk, unless it is there; return the seconds that it took.

    Raises:
        GzkernError: the source does not compile; with the compiler's lines.
    """
    begin = time.perf_counter()
    image(load(file, tile), architecture)
    return time.perf_counter() - begin


def compile_source(source: Source, architecture: str) -> Program:
    """Compile, from threads at once if need be.

    Raises:
        GzkernError: the source does not compile; with the compiler's lines.
    """
    from cupy.cuda import nvrtc

    program = nvrtc.createProgram(source.text, source.name, (), ())
    try:
        nvrtc.compileProgram(program, (f"--gpu-architecture={architecture}", *FLAGS))
        ptx = nvrtc.getPTX(program)
        code = ptx if architecture.startswith("compute") else _whole(nvrtc.getCUBIN(program))
        return Program(code, ptx.decode(), nvrtc.getProgramLog(program))
    except nvrtc.NVRTCError as error:
        lines = nvrtc.getProgramLog(program).strip() or str(error)
        raise GzkernError(f"{source.name} does not compile for {architecture}:\n{lines}") from None
    finally:
        nvrtc.destroyProgram(program)


def _whole(cubin: bytes) -> bytes:
    """CuPy cuts off the last byte, a zero, as if a cubin were a string; its size is a multiple of 8."""
    return cubin + b"\0" * (-len(cubin) % 8)
