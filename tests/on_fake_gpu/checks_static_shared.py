"""Shared memory of launches: its static part as NVRTC counts it, and all of it within the limit of the fake GPU."""

import re

import pytest
from fake_cupy.gpus import GPU
from fake_cupy.static_shared import static_bytes

import gzkern.training.memory
from benchmarks.profile import kernel_resources
from gzkern.config import PRECISIONS, load_config
from gzkern.runtime import source
from gzkern.runtime.backend import Limits


def test_static_memory_is_what_nvrtc_says():
    rows = kernel_resources.read("13.0").values()
    files = {kernel: stem for stem in source.stems() for kernel in source.load(stem).kernels}
    told = {(row.kernel, row.tile): row.shared for row in rows}
    counted = {
        (kernel, tile): static_bytes(files[kernel], kernel, tuple(map(int, re.findall(r"\d+", tile))))
        for kernel, tile in told
    }
    assert counted == told


@pytest.mark.parametrize("batch", [16, 256])
@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_published_step_fits(precision, batch, monkeypatch):
    launches, lay_out = set(), gzkern.training.memory.lay_out

    def remember(recorded, *arguments):
        launches.update((launch.kernel, launch.geometry.shared) for launch in recorded)
        return lay_out(recorded, *arguments)

    monkeypatch.setattr(gzkern.training.memory, "lay_out", remember)
    config = load_config("paper", [f"train.precision={precision}", f"train.batch={batch}"])
    gzkern.training.memory.step_memory(config, Limits(GPU.capability, GPU.multiprocessors, GPU.shared_bytes))
    assert launches
    for kernel, dynamic in launches:
        if dynamic:
            assert dynamic + static_bytes(kernel.file, kernel.name, kernel.tile) <= GPU.shared_bytes, kernel
