"""A .cu file as C++ that g++ compiles with ``include/cuda.hpp``."""

from __future__ import annotations

import re

from ...errors import GzkernError
from ..source import Source

_COMMENT = re.compile(r'//[^\n]*|/\*.*?\*/|("(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\')', re.DOTALL)
_TYPE = r"((?:[A-Za-z_][\w:]*(?:\s*<[^;<>]*>)?\s+)+)"
_ALIGN = r"(?:__align__\s*\(([^()]*)\)\s*)?"
_DYNAMIC = re.compile(rf"extern\s+__shared__\s+{_ALIGN}{_TYPE}(\w+)\s*\[\s*\]\s*;")
_STATIC = re.compile(rf"__shared__\s+{_ALIGN}{_TYPE}(\w+)((?:\s*\[[^\[\];]*\])*)\s*;")
_BOUNDS = re.compile(r"__launch_bounds__\s*\(((?:[^(),]|\([^()]*\))+)(?:,[^)]*)?\)\s*(?:void\s+)?(\w+)\s*\(")
_UNROLL = re.compile(r"#pragma unroll(?:[ \t]+(\d+))?[ \t]*$", re.MULTILINE)
_LINE = re.compile(r'^#line (\d+) "([^"]*)"$')


def translate(source: Source, unroll: bool = True) -> str:
    """The source with its shared variables rewritten, and a table of its kernels at the end.

    Args:
        source: of the file.
        unroll: obey ``#pragma unroll``, at most 16 times; else leave loops as they are.

    Raises:
        GzkernError: a declaration of shared memory in a form that is not understood; names file and line.
    """
    text = _COMMENT.sub(lambda match: match[1] or " " + "\n" * match[0].count("\n"), source.text)
    text = _DYNAMIC.sub(r"\2* \3 = emulation::dynamic_shared<\2>();", text)
    text = _STATIC.sub(
        lambda match: f"auto& {match[3]} = EMULATION_SHARED({match[1] or 1}, {match[2]}{match[4]});", text
    )
    if unroll:
        text = _UNROLL.sub(lambda match: f"#pragma GCC unroll {match[1] or 16}", text)
    left = text.find("__shared__")
    if left >= 0:
        raise GzkernError(
            f"{_place(text, left)}: shared memory is declared in a form that the emulated device does not understand; "
            "write __shared__ [__align__(n)] T name[size]..; or extern __shared__ [__align__(n)] T name[];"
        )
    bounds = {name: threads.strip() for threads, name in _BOUNDS.findall(text)}
    entries = "".join(f"EMULATION_KERNEL({name}, {bounds.get(name, 1024)}), " for name in source.kernels)
    return f'#include "cuda.hpp"\n{text}\n#line 1 "the table of kernels"\nEMULATION_TABLE({entries} {{}})\n'


def _place(text: str, offset: int) -> str:
    """``file(line)`` of a position, by the ``#line`` mark before it."""
    before = text[:offset].split("\n")
    for back, line in enumerate(reversed(before)):
        if mark := _LINE.match(line):
            return f"{mark[2]}({int(mark[1]) + back - 1})"
    return f"line {len(before)}"
