"""Shared memory on a fake RTX 4090: what is set before a launch, and what CUDA refuses where it is not."""

import numpy as np
import pytest
from fake_cupy import kernels
from fake_cupy.gpus import GPU

from gzkern.cuda.conv2d.forward_specialised import Tile
from gzkern.cuda.conv2d.operation import convolve
from gzkern.errors import GzkernError
from gzkern.runtime import cuda_backend

# That of conv3 at a batch of 16 images on this GPU: 49,152 bytes of dynamic shared memory and 80 of static.
TILE = Tile(3, 3, 1, 8, 1, 3, 32, 16, 2, 1, 4, 8, 2, 2)


@pytest.fixture
def layer():
    """x, weight and bias of a layer for this tile; no function has its attributes set."""
    gpu = cuda_backend.backend()
    gpu._functions.clear()
    rng = np.random.default_rng(0)
    shapes = (8, 8, 8, 16), (8, 3, 3, 32), (32, 6, 6)
    return [gpu.asarray(rng.standard_normal(shape, np.float32)) for shape in shapes]


def last_function():
    return kernels.functions[max(kernels.functions)]


def test_static_memory_counts(layer):
    assert TILE.shared == kernels.WITHOUT_OPT_IN
    y, _ = convolve(*layer, "relu", "specialised", tile=TILE)
    assert np.isfinite(cuda_backend.backend().asnumpy(y)).all()
    assert last_function().attributes == {kernels.STATIC: 80, kernels.MOST_DYNAMIC: 49_152, kernels.CARVEOUT: 100}


def test_a_launch_that_forgets_static_memory_fails(layer, monkeypatch):
    right = cuda_backend._prepare_shared_memory
    monkeypatch.setattr(
        cuda_backend, "_prepare_shared_memory", lambda handle, static, dynamic: right(handle, 0, dynamic)
    )
    with pytest.raises(GzkernError, match="conv2d_forward_specialised: CUDA_ERROR_INVALID_VALUE"):
        convolve(*layer, "relu", "specialised", tile=TILE)


def test_a_launch_without_opting_in_fails(layer, monkeypatch):
    monkeypatch.setattr(cuda_backend, "_prepare_shared_memory", lambda *arguments: None)
    with pytest.raises(GzkernError, match="CUDA_ERROR_INVALID_VALUE"):
        convolve(*layer, "relu", "specialised", tile=TILE)


def test_no_launch_has_more_than_the_gpu(layer):
    function = kernels.Function("conv2d/forward_specialised", "conv2d_forward_specialised", tuple(vars(TILE).values()))
    function.set_attribute(kernels.MOST_DYNAMIC, GPU.shared_bytes - 80)
    function._check(GPU.shared_bytes - 80)
    with pytest.raises(kernels.errors.CUDADriverError):
        function._check(GPU.shared_bytes - 79)
    with pytest.raises(kernels.errors.CUDADriverError) as failure:
        function.set_attribute(kernels.MOST_DYNAMIC, GPU.shared_bytes - 79)
    assert failure.value.status == 1
