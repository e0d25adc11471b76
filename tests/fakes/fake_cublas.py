"""A fake cuBLAS, over the memory of fake_cupy: cublasGemmEx in float32, column-major as ever."""

import ctypes
import sys
from types import ModuleType

import fake_cupy
import numpy as np

FLOAT, COMPUTE_32F = 0, 68


def matrix(pointer, rows, columns, leading):
    assert leading == rows, "every matrix here fills its memory"
    flat = np.ctypeslib.as_array((ctypes.c_float * (rows * columns)).from_address(pointer))
    return flat.reshape((rows, columns), order="F")


def gemmEx(handle, turn_a, turn_b, m, n, k, alpha, a, a_type, lda, b, b_type, ldb, beta, c, c_type, ldc, compute, algo):
    assert handle == 1
    assert a_type == b_type == c_type == FLOAT
    assert (compute, algo) == (COMPUTE_32F, -1)
    scale = [ctypes.c_float.from_address(pointer).value for pointer in (alpha, beta)]
    assert scale == [1.0, 0.0]
    left = matrix(a, k, m, lda).T if turn_a else matrix(a, m, k, lda)
    right = matrix(b, n, k, ldb).T if turn_b else matrix(b, k, n, ldb)
    result = matrix(c, m, n, ldc)
    fake_cupy.cuda.get_current_stream().put(lambda: np.matmul(left, right, out=result), "cuBLAS")


for name in ("cupy_backends", "cupy_backends.cuda", "cupy_backends.cuda.libs"):
    sys.modules.setdefault(name, ModuleType(name))
cublas = ModuleType("cupy_backends.cuda.libs.cublas")
cublas.gemmEx, cublas.CUBLAS_COMPUTE_32F = gemmEx, COMPUTE_32F
sys.modules[cublas.__name__] = sys.modules["cupy_backends.cuda.libs"].cublas = cublas
fake_cupy.cuda.get_cublas_handle = lambda: 1
