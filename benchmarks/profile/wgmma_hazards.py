"""Hazards of Hopper's warpgroup products (wgmma): registers touched while products that use them may run.

A product (HGMMA) runs beside the instructions that follow: it reads four registers of A, and adds to its sums. One that
is marked ``gsb0`` ends a group; ``WARPGROUP.DEPBAR.LE gsb0, n`` waits until at most n groups run. Until the group of a
product has been waited for, only products into the same sums may read or write these, and nothing may write A. The
hardware does not check that: a kernel that breaks it is wrong now and then.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass

from .disassembly import Instruction, parsed

_REGISTER = re.compile(r"(?<![A-Z])R(\d+)(\.64)?")
_PRODUCT = re.compile(r"R(\d+), R(\d+), gdesc\[UR\d+\]")
_COLUMNS = re.compile(r"64x(\d+)x8")
_WAIT = re.compile(r"gsb0, 0x([0-9a-f]+)")
_PREDICATE = re.compile(r"!?U?P(\d|T)")
_A_REGISTERS = 4
_MOST_GROUPS = 8  # a wait leaves at most seven running
_WIDTHS = {"64": 2, "128": 4, "WIDE": 2}  # registers of a value, by modifier


@dataclass(frozen=True)
class _Product:
    sums: range
    a: range


_Group = frozenset[_Product]


@dataclass(frozen=True)
class _State:
    """Groups of products that may run, oldest first, and the products since the last of them."""

    groups: tuple[_Group, ...] = ()
    open: _Group = frozenset()

    def ended(self) -> _State:
        """Close the open products to a group; the oldest two are merged where no wait could tell them apart."""
        oldest, *others = (*self.groups, self.open)
        if len(others) < _MOST_GROUPS:
            return _State((oldest, *others))
        return _State((oldest | others[0], *others[1:]))

    def waited(self, running: int) -> _State:
        """Drop all but the newest ``running`` groups."""
        return _State(self.groups[max(len(self.groups) - running, 0) :], self.open)


def hazards(listing: str) -> list[str]:
    """List the instructions of a kernel that touch registers of a product that may still run, on any path to them.

    Args:
        listing: nvdisasm's lines of one kernel.
    """
    instructions, labels = parsed(listing)
    addresses = [each.address for each in instructions]
    steps = [_Step(each) for each in instructions]
    found: set[int] = set()
    seen = set()
    paths = [(0, _State())]
    while paths:
        i, state = paths.pop()
        if i == len(steps) or (i, state) in seen:
            continue
        seen.add((i, state))
        step = steps[i]
        if step.is_hazard(state):
            found.add(i)
        after = step.after(state)
        if step.instruction.target:
            paths.append((bisect_left(addresses, labels[step.instruction.target]), after))
        if step.goes_on:
            paths.append((i + 1, after))
    return [str(instructions[i]) for i in sorted(found)]


class _Step:
    """An instruction, and how it changes or touches running products."""

    def __init__(self, instruction: Instruction) -> None:
        self.instruction = instruction
        self._product = _product(instruction) if instruction.name == "HGMMA" else None
        wait = _WAIT.search(instruction.operands) if instruction.name == "WARPGROUP" else None
        self._wait = wait and int(wait[1], 16)
        self._written, self._touched = frozenset(_written(instruction)), frozenset(_touched(instruction))

    @property
    def goes_on(self) -> bool:
        """Say whether the next instruction may follow; a BRA may have a predicate among its operands, not before it."""
        jumps = self.instruction.target is not None and self.instruction.operands.startswith("`")
        return self.instruction.guarded or not (jumps or self.instruction.name == "EXIT")

    def after(self, state: _State) -> _State:
        """Return the state after the instruction."""
        if self._product:
            added = _State(state.groups, state.open | {self._product})
            return added.ended() if "gsb0" in self.instruction.operands else added
        return state if self._wait is None else state.waited(self._wait)

    def is_hazard(self, state: _State) -> bool:
        """Say whether the instruction touches registers of a product that may run."""
        return any(self._collides(product) for product in state.open.union(*state.groups))

    def _collides(self, running: _Product) -> bool:
        own = self._product
        if own and own.sums == running.sums:
            return _overlap(own.a, running.sums)
        return not (self._touched.isdisjoint(running.sums) and self._written.isdisjoint(running.a))


def _product(each: Instruction) -> _Product:
    registers, columns = _PRODUCT.match(each.operands), _COLUMNS.match(each.modifiers[0])
    if registers is None or columns is None:
        raise ValueError(f"the product is not understood: {each}")
    sums, a = int(registers[1]), int(registers[2])
    return _Product(range(sums, sums + int(columns[1]) // 2), range(a, a + _A_REGISTERS))


def _written(each: Instruction) -> range:
    """Return the registers of the result: the first operand that is no predicate, if it is a register."""
    if each.name == "HGMMA":
        return _product(each).sums
    operands = (part.strip() for part in each.operands.split(","))
    first = next((part for part in operands if not _PREDICATE.fullmatch(part)), "")
    match = _REGISTER.match(first)
    if match is None or each.name.endswith("SETP"):
        return range(0)
    return range(int(match[1]), int(match[1]) + _width(each))


def _touched(each: Instruction) -> Iterator[int]:
    """Yield the registers that are read or written, all of a wide value."""
    if each.name == "HGMMA":
        product = _product(each)
        yield from (*product.sums, *product.a)
        return
    for match in _REGISTER.finditer(each.operands):
        in_address = each.operands.rfind("[", 0, match.start()) > each.operands.rfind("]", 0, match.start())
        width = 2 if match[2] else 1 if in_address else _width(each)
        yield from range(int(match[1]), int(match[1]) + width)


def _width(each: Instruction) -> int:
    """Return the number of registers of a value."""
    return max((_WIDTHS.get(modifier, 1) for modifier in each.modifiers), default=1)


def _overlap(a: range, b: range) -> bool:
    return a.start < b.stop and b.start < a.stop
