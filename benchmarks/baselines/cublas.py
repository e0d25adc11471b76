"""NVIDIA's cuBLAS through CuPy: a dense layer's product alone, without bias, activation or the mask of a gradient."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from gzkern.core.shapes import BACKWARD_DATA, BACKWARD_WEIGHTS, FORWARD
from gzkern.device import Device

from ..harness.problems.operation import OpProblem
from ..harness.problems.problem import Contender

_AS_IT_IS, _TRANSPOSED = 0, 1  # cublasOperation_t
_FLOAT = 0  # cudaDataType_t, CUDA_R_32F
_DEFAULT = -1  # cublasGemmAlgo_t


def missing(device: Device) -> str | None:
    """Say why cuBLAS cannot be measured; None if it can."""
    if device.name != "cuda":
        return "cuBLAS runs on a GPU alone"
    try:
        from cupy_backends.cuda.libs import cublas  # noqa: F401
    except ImportError as error:
        return f'cuBLAS cannot be loaded ({str(error).splitlines()[0]}); pip install "gzkern[bench-gpu]"'
    return None


def contenders(problem: Any, device: Device) -> Iterator[Contender]:
    """Yield cublasGemmEx, which chooses its algorithm, in float32 without TF32."""
    passes = (FORWARD, BACKWARD_DATA, BACKWARD_WEIGHTS)
    if not isinstance(problem, OpProblem) or problem.name != "dense" or problem.pass_name not in passes:
        return
    import cupy
    from cupy.cuda import get_cublas_handle
    from cupy_backends.cuda.libs import cublas

    one, zero = np.ones((), np.float32), np.zeros((), np.float32)
    host = problem.arrays
    (inputs, batch), outputs = host["x"].shape, host["weight"].shape[1]
    # Row-major (rows, columns) is cuBLAS's (columns, rows), so that every product is that of transposed matrices.
    a, b, turn_a, turn_b, shape, terms = {
        FORWARD: ("x", "weight", _AS_IT_IS, _TRANSPOSED, (outputs, batch), inputs),
        BACKWARD_DATA: ("dz", "weight", _AS_IT_IS, _AS_IT_IS, (inputs, batch), outputs),
        BACKWARD_WEIGHTS: ("dz", "x", _TRANSPOSED, _AS_IT_IS, (inputs, outputs), batch),
    }[problem.pass_name]
    left, right = device.asarray(host[a]), device.asarray(host[b])
    result = cupy.empty(shape, np.float32)

    def run() -> None:  # names arrays, not their addresses, so that they live
        cublas.gemmEx(
            get_cublas_handle(), turn_a, turn_b, shape[1], shape[0], terms,
            one.ctypes.data, left.data.ptr, _FLOAT, left.shape[1], right.data.ptr, _FLOAT, right.shape[1],
            zero.ctypes.data, result.data.ptr, _FLOAT, shape[1], cublas.CUBLAS_COMPUTE_32F, _DEFAULT,
        )  # fmt: skip

    def fetch() -> np.ndarray:
        return problem.finish(device.asnumpy(result), problem.arrays)

    yield Contender("the product alone", run, fetch)
