"""The machine code of a kernel: what it takes, how wide its loads are, and what its hottest loop is made of.

It needs NVRTC and nvdisasm, ``pip install -e ".[nvrtc]"``, and no GPU.
"""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from gzkern.errors import InputError
from gzkern.runtime import nvrtc, source
from gzkern.runtime.kernel import Kernel

from .kernel_resources import rows_of

INSTALL = 'pip install -e ".[nvrtc]"'
ARITHMETIC = ("FFMA", "HMMA", "HGMMA")
_MEMORY = ("LDG", "STG", "LDGSTS", "LDS", "STS", "LDSM", "LDL", "STL", "RED", "ATOMG", "ATOMS")

_SECTION = re.compile(r"^\.text\.(\w+):$", re.MULTILINE)
_LABEL = re.compile(r"^(\.L_\w+):$")
_INSTRUCTION = re.compile(r"^\s+/\*([0-9a-f]{4,})\*/\s+(@!?U?P\w+\s+)?([^;]*?)\s*;\s+/\* 0x[0-9a-f]{16} \*/$")
_ENCODING = re.compile(r"^\s+/\* (0x[0-9a-f]{16}) \*/$")
_TARGET = re.compile(r"`\((\.L_\w+)\)")


@dataclass(frozen=True)
class Loop:
    """A loop without those inside it.

    Attributes:
        mix: instructions by name, without modifiers.
        stall: the cycles that one warp alone needs at least for a turn.
    """

    mix: dict[str, int]
    stall: int

    @property
    def instructions(self) -> int:
        """Instructions of one turn."""
        return sum(self.mix.values())

    def count(self, *names: str) -> int:
        """Instructions of these names."""
        return sum(self.mix.get(name, 0) for name in names)

    @property
    def arithmetic(self) -> int:
        """Multiply-adds, of numbers or of matrices."""
        return self.count(*ARITHMETIC)


@dataclass(frozen=True)
class Code:
    """A kernel's machine code.

    Attributes:
        registers: of a thread.
        shared: static bytes of a block.
        spills: bytes stored and loaded again.
        instructions: all of them.
        memory: instructions that access memory, by name and width in bits, such as "LDS.128".
        arithmetic: as in ``ARITHMETIC``, by name.
        loop: the one with the most arithmetic, or else the longest; None without loops.
    """

    registers: int
    shared: int
    spills: int
    instructions: int
    memory: dict[str, int]
    arithmetic: dict[str, int]
    loop: Loop | None


@dataclass(frozen=True)
class Instruction:
    """One instruction.

    Attributes:
        address: in bytes from the kernel's first.
        name: without modifiers, such as "LDS".
        modifiers: such as ("128",).
        operands: as nvdisasm prints them.
        guarded: whether a predicate decides if it is executed.
        target: the label that a BRA jumps to.
        stall: cycles until the next.
    """

    address: int
    name: str
    modifiers: tuple[str, ...]
    operands: str
    guarded: bool
    target: str | None
    stall: int

    def __str__(self) -> str:
        return f"{self.address:04x}: {'.'.join((self.name, *self.modifiers))} {self.operands}".rstrip()


def require() -> None:
    """Require that kernels can be compiled and disassembled.

    Raises:
        InputError: a package is missing; says which.
    """
    try:
        nvrtc.version()
    except (ImportError, RuntimeError) as error:
        raise InputError(f"no NVRTC ({error}); {INSTALL}") from None
    _nvdisasm()


def read(kernel: Kernel, architecture: str) -> Code:
    """Return the code of a kernel, compiled anew.

    Raises:
        InputError: a package is missing.
        GzkernError: the file does not compile.
    """
    return _read_file(kernel.file, kernel.tile, architecture)[kernel.name]


@cache
def _read_file(file: str | Path, tile: tuple[int, ...], architecture: str) -> dict[str, Code]:
    require()
    program = nvrtc.compile_source(source.load(file, tile), architecture)
    texts = listings(program.code)
    rows = {row.kernel: row for row in rows_of(program, architecture)}
    return {
        name: code_of(texts[name], row.registers, row.shared, row.spill_stores + row.spill_loads)
        for name, row in rows.items()
    }


def code_of(text: str, registers: int, shared: int, spills: int) -> Code:
    """Read the facts of one kernel from nvdisasm's lines."""
    instructions, labels = parsed(text)
    widths = Counter(
        f"{each.name}.{_width(each)}" for each in instructions if each.name in _MEMORY and each.target is None
    )
    arithmetic = Counter(each.name for each in instructions if each.name in ARITHMETIC)
    loop = _hottest(instructions, labels)
    return Code(registers, shared, spills, len(instructions), dict(widths), dict(arithmetic), loop)


def parsed(text: str) -> tuple[list[Instruction], dict[str, int]]:
    """List the instructions of a kernel without the padding after its end, and the address of each label.

    Args:
        text: nvdisasm's lines of the kernel.
    """
    labels: dict[str, int] = {}
    waiting: list[str] = []
    found: list[Instruction] = []
    half: tuple[int, bool, str] | None = None
    for line in text.splitlines():
        if label := _LABEL.match(line):
            waiting.append(label[1])
        elif first := _INSTRUCTION.match(line):
            half = int(first[1], 16), bool(first[2]), first[3]
            labels.update(dict.fromkeys(waiting, half[0]))
            waiting = []
        elif half and (second := _ENCODING.match(line)):
            address, guarded, words = half
            half = None
            dotted, _, operands = words.partition(" ")
            name, *modifiers = dotted.split(".")
            target = _TARGET.search(operands) if name == "BRA" else None
            stall = int(second[1], 16) >> 41 & 15
            if name != "NOP":
                found.append(
                    Instruction(address, name, tuple(modifiers), operands, guarded, target and target[1], stall)
                )
    if found and found[-1].target and labels.get(found[-1].target) == found[-1].address:
        found.pop()  # a branch to itself, after the end
    return found, labels


def local_accesses(listing: str) -> int:
    """Count the instructions that load or store local memory, where spilled registers lie."""
    return sum(each.name in ("LDL", "STL") for each in parsed(listing)[0])


def _width(instruction: Instruction) -> int:
    """Bits that a lane accesses."""
    widths = {"U8": 8, "S8": 8, "U16": 16, "S16": 16, "64": 64, "128": 128}
    if instruction.name == "LDSM":
        return 128
    return next((widths[each] for each in instruction.modifiers if each in widths), 32)


def _hottest(instructions: list[Instruction], labels: dict[str, int]) -> Loop | None:
    loops = set()
    for each in instructions:
        if each.target and labels[each.target] <= each.address:
            loops.add((labels[each.target], each.address))
    own = [_own(loop, loops, instructions) for loop in loops]
    return max(own, key=lambda loop: (loop.arithmetic, loop.instructions), default=None)


def _own(loop: tuple[int, int], loops: Iterable[tuple[int, int]], instructions: list[Instruction]) -> Loop:
    inner = [each for each in loops if each != loop and loop[0] <= each[0] and each[1] <= loop[1]]
    body = [
        each
        for each in instructions
        if loop[0] <= each.address <= loop[1] and not any(a <= each.address <= b for a, b in inner)
    ]
    return Loop(dict(Counter(each.name for each in body)), sum(each.stall for each in body))


def listings(cubin: bytes) -> dict[str, str]:
    """Disassemble a cubin: nvdisasm's lines, by kernel.

    Raises:
        InputError: there is no nvdisasm.
    """
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        command = [_nvdisasm(), "--print-code", "--print-instruction-encoding", file.name]
        text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    parts = _SECTION.split(text)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


@cache
def _nvdisasm() -> str:
    """On the PATH, or of the package.

    Raises:
        InputError: in neither.
    """
    found = shutil.which("nvdisasm")
    if found:
        return found
    spec = importlib.util.find_spec("nvidia")
    for folder in spec.submodule_search_locations or () if spec else ():
        for path in Path(folder).glob("*/bin/nvdisasm*"):
            return str(path)
    raise InputError(f"no nvdisasm; {INSTALL}")
