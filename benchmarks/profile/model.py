"""The time of a launch on a GPU that is not here: a PREDICTION from a trace, machine code and a datasheet.

Every resource that a launch uses is busy for some time at least. The longest of these is the prediction, and names what
binds. No time is measured anywhere in this file; docs/kernel_report.md says how far to trust it.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from dataclasses import dataclass

from gzkern.runtime.emulator.trace import LaunchTrace

from ..harness.peaks import TENSOR_CORES
from .disassembly import Code
from .occupancy import MULTIPROCESSORS, limits


@dataclass(frozen=True)
class Gpu:
    """A GPU by its datasheet.

    Attributes:
        clock_mhz: highest, at which the FP32 peak of the datasheet holds.
        tensor_clock_mhz: that of the datasheet's tensor peak.
        memory_gb_s: peak.
        l2_bytes: of the last cache.
    """

    name: str
    capability: int
    architecture: str
    multiprocessors: int
    clock_mhz: int
    tensor_clock_mhz: int
    memory_gb_s: float
    l2_bytes: int


# NVIDIA H100 and H200 datasheets, SXM: 67 TFLOP/s FP32 (132 × 128 × 2 at 1980 MHz), 495 TFLOP/s dense TF32 (132 × 1024
# × 2 at 1830 MHz), 3.35 and 4.8 TB/s; the multiprocessors and the cache are in the H100 white paper.
GPUS = {
    "H100": Gpu("H100 SXM", 90, "sm_90a", 132, 1980, 1830, 3350, 50 * 2**20),
    "H200": Gpu("H200 SXM", 90, "sm_90a", 132, 1980, 1830, 4800, 50 * 2**20),
}

# Of a multiprocessor of compute capability 9.0, by the CUDA programming guide: warp instructions a cycle of the FP32
# lanes, of those for integers, comparisons and logic, and of the schedulers; and bytes and sectors of a wavefront, of
# which shared memory and L1 make one a cycle.
_FP32, _ALU, _SCHEDULERS, _WAVEFRONT_BYTES, _SECTORS = 4, 2, 4, 128, 4
_FP32_NAMES = ("FFMA", "FADD", "FMUL", "IMAD")
_ALU_NAMES = (
    *("IADD3", "VIADD", "LEA", "LOP3", "SHF", "PRMT", "SEL", "FSEL", "MOV", "ISETP", "FSETP", "PLOP3"),
    *("FMNMX", "IMNMX", "VIMNMX"),
)

# Assumptions, from published microbenchmarks of Hopper or a guess; a measurement would replace them.
_MMA_SHARE = 0.62  # of the tensor peak by mma.sync, which Hopper runs slower than its own wgmma
_L2_BYTES_A_CYCLE = 2800  # from the cache to all multiprocessors together: 5.5 TB/s
_ENDS = 1500  # cycles of a block that nothing of its own hides: to start, the first loads, the last stores
_BARRIER = 40  # cycles that a barrier and the first shared load after it leave a block without work

_SHAPE = re.compile(r"(mma\.sync|wgmma) m(\d+)n(\d+)k(\d+)")


@dataclass(frozen=True)
class Prediction:
    """Predicted times of one launch on one GPU.

    Attributes:
        resident: blocks that a multiprocessor holds at once, and by what that is limited.
        busiest: blocks of the multiprocessor that gets the most.
        balance: mean share of the multiprocessors' time that has work, 1 if blocks go up evenly.
        microseconds: by resource, at least.
    """

    resident: int
    limit: str
    busiest: int
    balance: float
    microseconds: dict[str, float]

    @property
    def total(self) -> float:
        """Microseconds, PREDICTED."""
        return max(self.microseconds.values())

    @property
    def binding(self) -> str:
        """The resource that takes the longest."""
        return max(self.microseconds, key=lambda name: self.microseconds[name])


def predict(trace: LaunchTrace, code: Code, gpu: Gpu) -> Prediction:
    """Predict a launch by the least time that each resource is busy.

    Args:
        trace: of some blocks of the launch, which stand for all.
        code: of the kernel.
        gpu: by name in ``GPUS``.
    """
    grid, threads = math.prod(trace.geometry.grid), math.prod(trace.geometry.block)
    shared = code.shared + trace.geometry.shared
    allowed = limits(gpu.architecture, threads, code.registers, shared)
    resident, busiest = min(allowed.values()), -(-grid // gpu.multiprocessors)
    warps = -(-threads // 32)
    rounds = -(-busiest // max(resident, 1))

    multiply_adds = trace.multiply_adds / 32 / trace.blocks  # warp instructions of a block
    products, tensor_cycles, operand_bytes = _tensor(trace, gpu)
    arithmetic = products or multiply_adds
    instructions = _instructions(trace, code, warps, arithmetic)
    turns = arithmetic / warps / code.loop.arithmetic if code.loop and code.loop.arithmetic else 0

    def of_loop(*names: str) -> float:
        return warps * turns * code.loop.count(*names) if code.loop else 0

    alone = turns * code.loop.stall if code.loop else 0
    per_block = {
        "FP32 lanes": max(multiply_adds, of_loop(*_FP32_NAMES)) / _FP32,
        "integer lanes": of_loop(*_ALU_NAMES) / _ALU,
        "shared-memory pipe": _wavefronts(trace) + operand_bytes / _WAVEFRONT_BYTES,
        "issue slots": instructions / _SCHEDULERS,
    }
    cycles = {name: busiest * value + _ENDS for name, value in per_block.items()}
    cycles["latency of few warps"] = rounds * (alone + _ENDS + trace.barriers / trace.blocks * _BARRIER)
    moved = grid * _l2_sectors(trace, shared, resident, gpu) * 32
    cycles["L2 to multiprocessors"] = moved / _L2_BYTES_A_CYCLE + _ENDS
    microseconds = {name: value / gpu.clock_mhz for name, value in cycles.items()}
    microseconds["tensor cores"] = (busiest * tensor_cycles + _ENDS) / gpu.tensor_clock_mhz if products else 0.0
    microseconds["DRAM"] = array_bytes(trace) / gpu.memory_gb_s / 1e3 + _ENDS / gpu.clock_mhz
    balance = grid / busiest / gpu.multiprocessors
    limit = " and ".join(name for name, blocks in allowed.items() if blocks == resident)
    return Prediction(resident, limit, busiest, balance, microseconds)


def array_bytes(trace: LaunchTrace) -> int:
    """Return the bytes that a launch moves at least.

    Each array counts once, twice if it is read and written; of an array that is used in part, the touched part counts.
    """
    touched: dict[tuple[int, bool], float] = defaultdict(float)
    for access in trace.accesses:
        if access.argument is not None:
            for stores in {"store": (True,), "atomic": (False, True)}.get(access.kind, (False,)):
                touched[access.argument, stores] += access.cost * 32 / trace.blocks
    grid = math.prod(trace.geometry.grid)
    return round(sum(min(trace.array_bytes(argument), grid * each) for (argument, _), each in touched.items()))


def _tensor(trace: LaunchTrace, gpu: Gpu) -> tuple[float, float, float]:
    """Return a block's tensor instructions by warps, their cycles, and the bytes that wgmma reads of shared memory."""
    tf32, bf16 = TENSOR_CORES[gpu.capability]
    products = cycles = operand_bytes = 0.0
    for name, lanes in trace.calls.items():
        if shape := _SHAPE.match(name):
            kind, m, n, k = shape[1], int(shape[2]), int(shape[3]), int(shape[4])
            warps = 4 if kind == "wgmma" else 1  # that do it together
            count = lanes / 32 / trace.blocks
            rate = (bf16 if k == 16 else tf32) * (_MMA_SHARE if kind == "mma.sync" else 1)
            products += count
            cycles += count / warps * m * n * k / rate
            if kind == "wgmma":
                operand_bytes += count / warps * n * k * 4
    return products, cycles, operand_bytes


def _instructions(trace: LaunchTrace, code: Code, warps: int, arithmetic: float) -> float:
    """Warp instructions of a block: the hottest loop as often as its arithmetic says, all else once a warp.

    A loop without arithmetic is counted by its accesses to memory.
    """
    if not code.loop:
        return code.instructions * warps
    inside, done = code.loop.arithmetic, arithmetic
    if not inside or not done:
        inside = code.loop.count("LDG", "STG", "LDS", "STS")
        done = sum(access.requests for access in trace.accesses) / trace.blocks
    return (code.instructions - code.loop.instructions) * warps + done / max(inside, 1) * code.loop.instructions


def _wavefronts(trace: LaunchTrace) -> float:
    """Return a block's wavefronts of shared memory and of L1, which share a pipe."""
    shared = trace.total("cost", "shared")
    global_ = sum(
        max(access.requests, access.cost / _SECTORS)
        for access in trace.accesses
        if access.space == "global" and access.kind != "copy"
    )
    return (shared + global_) / trace.blocks


def _l2_sectors(trace: LaunchTrace, shared: int, resident: int, gpu: Gpu) -> float:
    """Between L2 and a multiprocessor, of a block: what L1 has room for is loaded once."""
    whole = MULTIPROCESSORS[gpu.architecture].shared + 28 * 1024  # L1 and shared memory are one, 256 KiB
    room = whole / max(resident, 1) - shared
    loads = trace.total("cost", "global", "load", "copy", "atomic")
    if trace.loaded_sectors / trace.blocks * 32 <= room:
        loads = trace.loaded_sectors
    return (loads + trace.total("cost", "global", "store", "atomic")) / trace.blocks
