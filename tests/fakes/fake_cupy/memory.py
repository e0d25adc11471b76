"""Memory of the device and of the host that is page-locked: pools that lend it anew as soon as it is given back.

CuPy's pools do that too. A copy or a launch that is still queued then meets somebody else's array, unless somebody
waited for it.
"""

from math import prod

import numpy as np

from . import errors, faults, queues
from .gpus import GPU

_ALIGNMENT = 512
_MOST_SPARE = 512 << 20  # bytes that wait for somebody to need just so many


class Owner:
    """The owner of the memory of an array and its views, which goes back to its pool with the last of them."""

    def __init__(self, pool, buffer):
        self._pool, self.buffer = pool, buffer

    def array(self, shape, dtype):
        """The memory as an array of NumPy's, which does not keep it from going back."""
        size = prod(shape) * np.dtype(dtype).itemsize
        return self.buffer[:size].view(dtype).reshape(shape)

    def __del__(self):
        self._pool.give_back(self.buffer)


class Pool:
    def __init__(self, most_bytes):
        self.most, self._spare = most_bytes, {}
        self.total_bytes = self._spare_bytes = 0

    def lend(self, nbytes):
        """So many bytes: those that were given back last, if they are as many."""
        size = -(-max(nbytes, 1) // _ALIGNMENT) * _ALIGNMENT
        if self._spare_bytes > _MOST_SPARE:
            self.free_all_blocks()
        if spare := self._spare.get(size):
            self._spare_bytes -= size
            return Owner(self, spare.pop())
        if self.total_bytes + size > self.most:
            self.free_all_blocks()
        if self.total_bytes + size > self.most:
            raise errors.OutOfMemoryError(f"Out of memory allocating {size:,} bytes (allocated so far: "
                                          f"{self.total_bytes - self._spare_bytes:,} bytes).")  # fmt: skip
        self.total_bytes += size
        memory = np.empty(size + _ALIGNMENT, np.uint8)
        offset = -memory.__array_interface__["data"][0] % _ALIGNMENT
        return Owner(self, memory[offset : offset + size])

    def give_back(self, buffer):
        self._spare_bytes += buffer.nbytes
        self._spare.setdefault(buffer.nbytes, []).append(buffer)

    def free_all_blocks(self):
        """Return what nobody uses to the driver, for which cudaFree waits for the whole device."""
        queues.finish_all()
        self.total_bytes -= self._spare_bytes
        self._spare_bytes = 0
        self._spare.clear()


pool = Pool(min(GPU.memory_bytes, faults.memory_bytes() or GPU.memory_bytes))
page_locked = Pool(GPU.memory_bytes)
