"""Occupancy: the number of blocks of a kernel that a multiprocessor holds at once."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Multiprocessor:
    """The limits that the blocks of a multiprocessor share: warps, blocks, and bytes of shared memory."""

    warps: int
    blocks: int
    shared: int


MULTIPROCESSORS = {
    "sm_80": Multiprocessor(64, 32, 164 * 1024),
    "sm_86": Multiprocessor(48, 16, 100 * 1024),
    "sm_89": Multiprocessor(48, 24, 100 * 1024),
    "sm_90": Multiprocessor(64, 32, 228 * 1024),
    "sm_90a": Multiprocessor(64, 32, 228 * 1024),
    "sm_100": Multiprocessor(64, 32, 228 * 1024),
    "sm_120": Multiprocessor(48, 24, 100 * 1024),
}
"""Limits by architecture; the numbers are those of NVIDIA's CCCL headers."""

_RESERVED_SHARED = 1024  # bytes a block
_REGISTERS, _PARTITIONS = 64 * 1024, 4  # of a multiprocessor; a warp has those of one partition


def limits(architecture: str, threads: int, registers: int, shared: int) -> dict[str, int]:
    """Return the blocks that each resource would allow.

    Args:
        architecture: such as "sm_90".
        threads: of a block.
        registers: of a thread.
        shared: bytes of a block, static and dynamic.
    """
    room = MULTIPROCESSORS[architecture]
    warps = -(-threads // 32)
    registers_a_warp = -(-32 * registers // 256) * 256
    warps_by_registers = _REGISTERS // _PARTITIONS // registers_a_warp * _PARTITIONS
    return {
        "warps": room.warps // warps,
        "registers": warps_by_registers // warps,
        "shared memory": room.shared // (-(-shared // 128) * 128 + _RESERVED_SHARED),
        "blocks": room.blocks,
    }


def resident_blocks(architecture: str, threads: int, registers: int, shared: int) -> int:
    """Return the blocks that a multiprocessor holds at once; arguments as :func:`limits`."""
    return min(limits(architecture, threads, registers, shared).values())
