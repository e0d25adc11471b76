"""The backend of the device ``cpu``: NumPy arrays, and no kernels."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np

from ..core.processes import free_memory


class CpuBackend:
    """NumPy arrays; operations are done when their call returns."""

    name = "cpu"

    def empty(self, shape: tuple[int, ...], dtype: Any = np.float32) -> np.ndarray:
        """Allocate an array of undefined values."""
        return np.empty(shape, dtype)

    def asarray(self, array: np.ndarray) -> np.ndarray:
        """The array itself."""
        return array

    def asnumpy(self, array: Any) -> np.ndarray:
        """The array itself; the product of factors that :class:`cpu.dense.OuterProduct` keeps."""
        return np.asarray(array)

    def write(self, array: np.ndarray, values: np.ndarray) -> None:
        """Write values into an array."""
        array[...] = values

    def external(self, array: Any, name: str) -> Any:
        """The array itself: nothing is captured."""
        return array

    def range(self, name: str) -> AbstractContextManager[None]:
        """Names have no use here."""
        return nullcontext()

    def describe(self) -> dict[str, Any]:
        """Nothing beside the processor and the Python packages."""
        return {}

    def free_bytes(self) -> int:
        """Bytes of memory that nobody uses."""
        return free_memory()
