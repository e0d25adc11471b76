"""A fake cuDNN, over the memory of fake_cupy: strict about what it is asked; NumPy computes it.

Of every graph there are three plans: one deselected, one that is fast and wrong, one that is right.
"""

import ctypes
import sys
from types import ModuleType, SimpleNamespace

import fake_cupy
import numpy as np

from gzkern.core.bfloat16 import from_bfloat16, to_bfloat16
from gzkern.cpu import conv2d, maxpool2d

FLOAT, BFLOAT16 = "FLOAT", "BFLOAT16"
RIGHT, WRONG = "right", "wrong"
HANDLE = 4711
deselected = []  # the numerical notes of every graph that was made


def enumeration(*names):
    return SimpleNamespace(**{name: name for name in names})


def memory(pointer, shape, strides, kind):
    """The array at an address, which must lie in an array of the fake device."""
    size = 1 + sum((extent - 1) * stride for extent, stride in zip(shape, strides, strict=True))
    assert size == np.prod(shape), f"{strides} do not fill {shape}"
    kind_of_c, itemsize = (ctypes.c_uint16, 2) if kind == BFLOAT16 else (ctypes.c_float, 4)
    flat = np.ctypeslib.as_array((kind_of_c * size).from_address(pointer))
    return np.lib.stride_tricks.as_strided(flat, shape, [itemsize * stride for stride in strides])


def read(array):
    return (from_bfloat16(array) if array.dtype == np.uint16 else array).astype(np.float64)


def write(array, values):
    array[...] = to_bfloat16(values.astype(np.float32)) if array.dtype == np.uint16 else values


class Tensor:
    def __init__(self, dim=None, stride=None, kind=None, compute=None):
        self.dim, self.stride, self.kind, self.compute = dim, stride, kind, compute
        self.output = False

    def set_output(self, output):
        self.output = output
        return self

    def set_dim(self, dim):
        assert type(dim) is list
        self.dim = dim
        return self

    def set_stride(self, stride):
        assert type(stride) is list
        self.stride = stride
        return self

    def set_data_type(self, kind):
        self.kind = kind
        return self


def chwn(array):
    return array.transpose(1, 2, 3, 0)


def nchw(array):
    return array.transpose(3, 0, 1, 2)


class pygraph:
    def __init__(self, io_data_type, intermediate_data_type, compute_data_type, handle):
        assert handle == HANDLE
        assert intermediate_data_type == compute_data_type == FLOAT
        self.stage, self.outputs, self.convolves = ["made"], [], False

    def tensor(self, name, dim, stride, data_type):
        assert all(type(extent) is int for extent in (*dim, *stride))
        assert data_type in (FLOAT, BFLOAT16)
        return Tensor(dim, stride, data_type)

    def _made(self, compute):
        self.outputs.append(Tensor(compute=compute))
        return self.outputs[-1]

    def _convolves(self, padding, stride, dilation):
        assert (padding, stride, dilation) == ([0, 0], [1, 1], [1, 1])
        self.convolves = True

    def conv_fprop(self, image, weight, padding, stride, dilation):
        self._convolves(padding, stride, dilation)

        def compute(value):
            x, w = chwn(value(image)), chwn(value(weight))
            zeros = np.zeros((w.shape[3], x.shape[1] - w.shape[1] + 1, x.shape[2] - w.shape[2] + 1))
            return nchw(conv2d.forward_oracle(x, w, zeros, activate=False, pool=False)[0])

        return self._made(compute)

    def conv_dgrad(self, loss, filter, padding, stride, dilation):
        self._convolves(padding, stride, dilation)

        def compute(value):
            dz, w = chwn(value(loss)), chwn(value(filter))
            x = np.zeros((w.shape[0], dz.shape[1] + w.shape[1] - 1, dz.shape[2] + w.shape[2] - 1, dz.shape[3]))
            return nchw(conv2d.backward_oracle(x, w, x, None, dz, activate=False)[0])

        return self._made(compute)

    def conv_wgrad(self, image, loss, padding, stride, dilation):
        self._convolves(padding, stride, dilation)

        def compute(value):
            x, dz = chwn(value(image)), chwn(value(loss))
            w = np.zeros((x.shape[0], x.shape[1] - dz.shape[1] + 1, x.shape[2] - dz.shape[2] + 1, dz.shape[0]))
            return nchw(conv2d.backward_oracle(x, w, x, None, dz, activate=False, data=False)[1])

        return self._made(compute)

    def add(self, a, b):
        return self._made(lambda value: value(a) + value(b))

    def relu(self, input):
        return self._made(lambda value: np.maximum(value(input), 0))

    def relu_backward(self, loss, input):
        return self._made(lambda value: value(loss) * (value(input) > 0))

    def _next(self, stage, *after):
        assert self.stage[-1] in after, f"{stage} after {self.stage[-1]}"
        self.stage.append(stage)

    def validate(self):
        self._next("valid", "made")
        (self.result,) = [t for t in self.outputs if t.output]
        assert self.result.dim
        assert self.result.stride
        assert self.result.kind

    def build_operation_graph(self):
        self._next("graph", "valid")

    def create_execution_plans(self, modes):
        assert modes
        self._next("plans", "graph")

    def deselect_numeric_notes(self, notes):
        self._next("deselected", "plans")
        deselected.append(notes)

    def deselect_workspace_greater_than(self, size):
        self._next("limited", "plans", "deselected")

    def check_support(self):
        self._next("supported", "limited")

    def get_execution_plan_count(self):
        return 3

    def build_plan_at_index(self, index):
        if index == 0:
            raise RuntimeError("Deselecting execution plan")

    def get_workspace_size_plan_at_index(self, index):
        return 100 * index

    def get_plan_name_at_index(self, index):
        return ["", WRONG, RIGHT][index]

    def execute_plan_at_index(self, pointers, workspace, index, handle):
        assert handle == HANDLE
        assert type(workspace) is int
        fake_cupy.cuda.get_current_stream().put(lambda: self._execute(pointers, index), "cuDNN")

    def _execute(self, pointers, index):
        arrays = {t: memory(pointer, t.dim, t.stride, t.kind) for t, pointer in pointers.items()}

        def value(tensor):
            return read(arrays[tensor]) if tensor in arrays else tensor.compute(value)

        computed = self.result.compute(value)
        if index == 1 and self.convolves:
            computed = computed + 10
        write(arrays[self.result], computed)


class Library:
    """The older API."""

    def __init__(self):
        self.described = {}

    def _create(self, reference):
        reference._obj.value = len(self.described) + 1
        self.described[reference._obj.value] = None
        return 0

    cudnnCreateTensorDescriptor = cudnnCreatePoolingDescriptor = cudnnCreateActivationDescriptor = _create

    def cudnnSetTensor4dDescriptorEx(self, descriptor, kind, *shape_and_strides):
        assert len(shape_and_strides) == 8
        self.described[descriptor.value] = shape_and_strides[:4], shape_and_strides[4:], {0: FLOAT, 9: BFLOAT16}[kind]
        return 0

    def cudnnSetPooling2dDescriptor(self, descriptor, mode, nan, *window):
        assert (mode, nan, window) == (0, 1, (2, 2, 0, 0, 2, 2))
        return 0

    def cudnnSetActivationDescriptor(self, descriptor, mode, nan, coefficient):
        assert (mode, nan, type(coefficient)) == (1, 1, ctypes.c_double)
        return 0

    def _array(self, descriptor, pointer):
        shape, strides, kind = self.described[descriptor.value]
        return memory(pointer.value, shape, strides, kind)

    def cudnnPoolingForward(self, handle, pool, one, x_of, x, zero, y_of, y):
        assert (handle.value, one._obj.value, zero._obj.value) == (HANDLE, 1.0, 0.0)
        large, small = self._array(x_of, x), self._array(y_of, y)

        def run():
            pooled, _ = maxpool2d.forward(chwn(read(large)))
            write(small, nchw(pooled))

        fake_cupy.cuda.get_current_stream().put(run, "cuDNN")
        return 0

    def cudnnPoolingBackward(self, handle, pool, one, y_of, y, dy_of, dy, x_of, x, zero, dx_of, dx):
        assert (handle.value, one._obj.value, zero._obj.value) == (HANDLE, 1.0, 0.0)
        given, result = self._array(dy_of, dy), self._array(dx_of, dx)
        whole, expected = self._array(x_of, x), self._array(y_of, y)

        def run():
            large = chwn(read(whole))
            pooled, code = maxpool2d.forward(large)
            np.testing.assert_array_equal(pooled, chwn(read(expected)))
            _, H, W, _ = large.shape
            write(result, nchw(maxpool2d.backward(chwn(read(given)), code, H, W)))

        fake_cupy.cuda.get_current_stream().put(run, "cuDNN")
        return 0


cudnn = ModuleType("cudnn")
vars(cudnn).update(
    __spec__=SimpleNamespace(name="cudnn"),
    create_handle=lambda: HANDLE,
    set_stream=lambda handle, stream: None,
    pygraph=pygraph,
    data_type=enumeration(FLOAT, BFLOAT16),
    heur_mode=enumeration("A", "B", "FALLBACK"),
    numerical_note=enumeration("TENSOR_CORE", "DOWN_CONVERT_INPUTS", "REDUCED_PRECISION_REDUCTION"),
)
sys.modules["cudnn"] = cudnn
