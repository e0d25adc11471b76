"""Bytes of static shared memory of a kernel, as its compiler counts them.

The emulated device counts them while a kernel runs, and CUDA tells them before. So g++ compiles the kernel once more,
without the bodies of the file's other kernels; a declaration of shared memory becomes one that says its size when the
library is loaded. What templates make is counted so, too. Where dynamic memory follows, its alignment counts.
"""

import ctypes
import hashlib
import re
import subprocess
import tempfile
from functools import cache

_OPTIONS = ("-std=c++20", "-shared", "-fPIC", "-O0", "-w", "-fno-exceptions", "-march=native", "-fno-gnu-unique")
_HEADER = """#include "cuda.hpp"
#undef EMULATION_SHARED
extern "C" { unsigned static_shared_bytes; }
template <unsigned SIZE, unsigned ALIGNMENT, class Site>
struct Declared {
  static inline const unsigned end =
      static_shared_bytes = (static_shared_bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT + SIZE;
};
#define EMULATION_SHARED(alignment, ...)                                                        \\
  [&]() -> auto& {                                                                              \\
    using Variable = __VA_ARGS__;                                                               \\
    constexpr unsigned aligned = alignof(Variable) > alignment ? alignof(Variable) : alignment; \\
    struct Site {};                                                                             \\
    static unsigned end;                                                                        \\
    end = Declared<sizeof(Variable), aligned, Site>::end;                                       \\
    return *reinterpret_cast<Variable*>(&end);                                                  \\
  }()
"""
_INCLUDE = '#include "cuda.hpp"\n'
_DYNAMIC = re.compile(r"extern\s+__shared__\s+__align__\(\s*(\d+)\s*\)")


@cache
def static_bytes(file, kernel, tile):
    """So many bytes; where the file declares none, no compiler is needed."""
    from gzkern.core import compile_cache as disk
    from gzkern.runtime import source
    from gzkern.runtime.emulator import compiler
    from gzkern.runtime.emulator.translate import translate

    code = source.load(file, tile)
    text = translate(code, unroll=False)
    if "EMULATION_SHARED" not in text:
        return 0
    text = text.partition('\n#line 1 "the table of kernels"')[0]
    for other in set(code.kernels) - {kernel}:
        text = _without_body(text, other)
    text = text.replace(_INCLUDE, _HEADER, 1)
    command = [compiler.find().path, *_OPTIONS, f"-I{compiler._INCLUDE}"]
    key = hashlib.sha256("\0".join([text, compiler._headers(), *command]).encode()).hexdigest()[:24]

    def count():
        return str(_count(text, command)).encode()

    counted = int(disk.keep(disk.folder("fake_cupy") / f"{kernel}-{key}.txt", count))
    alignment = max(map(int, _DYNAMIC.findall(code.text)), default=1)
    return -(-counted // alignment) * alignment


def _without_body(text, kernel):
    """The text with ``{}`` for the body of a kernel; comments are gone already."""
    begin = re.search(rf"\b{kernel}\s*\((?:[^()]|\([^()]*\))*\)\s*{{", text).end()
    depth, end = 1, begin
    while depth:
        depth += {"{": 1, "}": -1}.get(text[end], 0)
        end += 1
    return text[:begin] + re.sub(r"[^\n]", "", text[begin : end - 1]) + text[end - 1 :]


def _count(text, command):
    with tempfile.NamedTemporaryFile(suffix=".so") as library:
        subprocess.run([*command, "-xc++", "-", "-o", library.name], input=text, text=True, check=True)
        return ctypes.c_uint.in_dll(ctypes.CDLL(library.name), "static_shared_bytes").value
