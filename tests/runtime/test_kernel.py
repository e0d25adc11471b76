"""Launches, and the device that arrays live on. What is refused, tests/cuda/test_bindings.py lists."""

from types import SimpleNamespace

import numpy as np
import pytest

from gzkern.errors import InputError
from gzkern.runtime import cuda_backend
from gzkern.runtime.arrays import backend_of, require_size
from gzkern.runtime.kernel import Geometry, Kernel, ceil_div, choose, elementwise


class CapturingBackend:
    """A backend that writes down what it is asked to launch."""

    def __init__(self):
        self.launches = []

    def get_function(self, file, kernel, tile):
        return lambda *arguments: self.launches.append((file, kernel, tile, *arguments))


class CupyArray:
    """What is looked at in a CuPy array."""

    dtype, size, strides = np.dtype(np.float32), 4, (4,)
    flags, data = SimpleNamespace(c_contiguous=True), SimpleNamespace(ptr=512)

    def __init__(self, number):
        self.device = SimpleNamespace(id=number)


CupyArray.__module__ = "cupy"


def test_a_kernel_is_launched_as_it_was_called():
    backend, x, n = CapturingBackend(), np.zeros(8, np.float32), np.uint32(8)
    Kernel("relu", "relu_forward")(backend, Geometry((2, 3), (4, 8), 1024), x, x, n)
    assert backend.launches == [("relu", "relu_forward", (), (2, 3), (4, 8), (x, x, n), 1024)]


@pytest.mark.parametrize(
    "geometry",
    [Geometry((2**31 - 1, 65535, 65535), (1024,)), Geometry((1,), (16, 8, 8)), Geometry((1,), (1,))],
)
def test_the_largest_and_smallest_launches(geometry):
    backend = CapturingBackend()
    Kernel("relu", "relu_forward")(backend, geometry)
    assert len(backend.launches) == 1


def test_geometry_of_elementwise_kernels():
    assert elementwise(1) == Geometry((1,), (256,), 0)
    assert elementwise(257) == Geometry((2,), (256,), 0)
    assert elementwise(128, block=64) == Geometry((2,), (64,), 0)
    assert elementwise(0).grid == (0,)


def test_ceil_div():
    assert [ceil_div(a, 4) for a in (0, 1, 4, 5)] == [0, 1, 1, 2]


def test_choice_of_a_version():
    versions = {"naive": Kernel("dense_forward", "dense_forward_naive"), "tiled": Kernel("dense_forward", "tiled")}
    assert choose("dense", versions, "tiled") is versions["tiled"]
    with pytest.raises(InputError, match=r"^dense: version is 'fast', expected naive or tiled$"):
        choose("dense", versions, "fast")


def test_size_of_a_result():
    require_size("dense", "y", (2**16, 2**15 - 1))
    require_size("dense", "y", (2**31, 0))
    with pytest.raises(
        InputError, match=r"^dense: y \(65536, 32768\) would have 2\^31 elements or more; take a smaller"
    ):
        require_size("dense", "y", (2**16, 2**15))


def test_numpy_arrays_are_of_the_emulated_device():
    from gzkern.runtime.emulator import backend

    x, code = np.zeros((2, 3), np.float32), np.zeros(6, np.uint8)
    assert backend_of("maxout", x=x) is backend
    assert backend_of("maxout", np.uint8, code=code) is backend
    assert backend_of("maxout", {"code": np.uint8}, x=x, code=code, nothing=np.zeros(0, np.float32)) is backend
    assert backend_of("mse", loss=np.zeros((), np.float32)) is backend


def test_cupy_arrays_are_of_their_gpu():
    assert backend_of("relu", x=CupyArray(0)) is cuda_backend.backend()
    assert backend_of("relu", x=CupyArray(1), y=CupyArray(1)) is cuda_backend.backend(1) is not cuda_backend.backend()
