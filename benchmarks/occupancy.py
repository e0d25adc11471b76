"""How many blocks of a kernel a multiprocessor holds at once."""

from __future__ import annotations

SHARED = {"sm_80": 164 * 1024, "sm_90": 228 * 1024, "sm_90a": 228 * 1024}
"""Bytes of shared memory of a multiprocessor."""

_RESERVED_SHARED = 1024  # bytes a block
_WARPS, _BLOCKS = 64, 32  # of a multiprocessor
_REGISTERS, _PARTITIONS = 64 * 1024, 4  # of a multiprocessor; a warp has those of one partition


def limits(architecture: str, threads: int, registers: int, shared: int) -> dict[str, int]:
    """Blocks that each resource would allow.

    Args:
        architecture: such as "sm_90".
        threads: of a block.
        registers: of a thread.
        shared: bytes of a block, static and dynamic.
    """
    warps = -(-threads // 32)
    registers_a_warp = -(-32 * registers // 256) * 256
    warps_by_registers = _REGISTERS // _PARTITIONS // registers_a_warp * _PARTITIONS
    return {
        "warps": _WARPS // warps,
        "registers": warps_by_registers // warps,
        "shared memory": SHARED[architecture] // (-(-shared // 128) * 128 + _RESERVED_SHARED),
        "blocks": _BLOCKS,
    }


def resident_blocks(architecture: str, threads: int, registers: int, shared: int) -> int:
    """How many blocks a multiprocessor holds at once; arguments as :func:`limits`."""
    return min(limits(architecture, threads, registers, shared).values())
