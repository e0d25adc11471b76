"""Peaks of a device, and its clocks while it is measured."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any

# Dense multiply-adds a clock and multiprocessor of the tensor cores with sums in float32, by compute capability times
# ten: TF32, BF16 (NVIDIA's architecture white papers).
TENSOR_CORES = {
    80: (512, 1024),
    86: (128, 256),
    89: (128, 256),
    90: (1024, 2048),
    100: (2048, 4096),
    103: (2048, 4096),
    120: (128, 256),
}


@dataclass(frozen=True)
class Peaks:
    """Peaks of a device at its highest clock; None where they are not known.

    Attributes:
        tflops: by precision, of the products as they are counted: one of fp32x3 takes three of TF32.
        gb_s: of memory.
        l2_bytes: of the last cache.
    """

    tflops: dict[str, float | None]
    gb_s: float | None
    l2_bytes: int

    def beaten_by(self, row: dict[str, Any]) -> str | None:
        """Return a sentence if a row cannot be true."""
        where = " ".join(str(row[key]) for key in ("name", "layer", "pass", "variant", "precision") if row[key])
        where = f"{where}, batch {row['batch']}, {row['l2']} cache"
        peak = self.tflops.get(row["precision"])
        if peak and row["tflops"] and row["tflops"] > peak:
            return (
                f"{where}: {row['tflops']:.1f} TFLOP/s is above {peak:.1f}, the peak of this device; the "
                "time or the count is wrong"
            )
        if row["l2"] == "cold" and self.gb_s and row["gb_s"] > self.gb_s:
            return (
                f"{where}: {row['gb_s']:.0f} GB/s is above {self.gb_s:.0f}, the peak of this device's memory; the time "
                "or the count is wrong, or the cache was not cold"
            )
        return None


def peaks_of(facts: dict[str, Any]) -> Peaks:
    """Return the peaks of a GPU by the facts of :func:`gzkern.runtime.gpu.describe`; no peaks without facts."""
    if not facts:
        return Peaks({}, None, 0)
    capability = round(10 * facts["compute_capability"])
    per_clock = facts["multiprocessors"] * facts["clock_mhz"] * 1e6 * 2 / 1e12
    tf32, bf16 = (units * per_clock or None for units in TENSOR_CORES.get(capability, (0, 0)))
    tflops = {"fp32": facts["peak_fp32_tflops"], "tf32": tf32, "fp32x3": tf32 and tf32 / 3, "bf16": bf16}
    return Peaks(tflops, facts["peak_memory_gb_s"], facts["l2_bytes"])


def clocks() -> dict[str, int] | None:
    """Return the GPU's clocks in MHz and its power in W at this moment, by NVML; None where there is none."""
    try:
        from cupy.cuda import runtime

        library = ctypes.CDLL("libnvidia-ml.so.1")
        handle, number = ctypes.c_void_p(), ctypes.c_uint()
        address = runtime.deviceGetPCIBusId(0).encode()
        if library.nvmlInit_v2() or library.nvmlDeviceGetHandleByPciBusId_v2(address, ctypes.byref(handle)):
            return None
        found = {}
        for name, which in (("sm_mhz", 1), ("memory_mhz", 2)):
            if library.nvmlDeviceGetClockInfo(handle, which, ctypes.byref(number)) == 0:
                found[name] = number.value
        if library.nvmlDeviceGetPowerUsage(handle, ctypes.byref(number)) == 0:
            found["power_w"] = round(number.value / 1000)
        return found or None
    except (ImportError, OSError, AttributeError):
        return None
