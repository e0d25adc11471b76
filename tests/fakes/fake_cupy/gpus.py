"""The GPUs that the fake CuPy can be, by what the choice of kernels and tiles depends on."""

import os
from dataclasses import dataclass


@dataclass(frozen=True)
class Gpu:
    """``shared_bytes``: the most that a block may opt in to, static and dynamic."""

    capability: int
    multiprocessors: int
    shared_bytes: int
    memory_bytes: int


GPUS = {
    "A100": Gpu(80, 108, 163 << 10, 80 << 30),
    "RTX3090": Gpu(86, 82, 99 << 10, 24 << 30),
    "RTX4090": Gpu(89, 128, 99 << 10, 24 << 30),
    "H100": Gpu(90, 132, 227 << 10, 80 << 30),
    "B200": Gpu(100, 148, 227 << 10, 180 << 30),
    "RTX5090": Gpu(120, 170, 99 << 10, 32 << 30),
}
NAME = os.environ.get("FAKE_GPU") or "H100"  # whose limits the emulated device has, so that both take the same tiles
GPU = GPUS[NAME]
