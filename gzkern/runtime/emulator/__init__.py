"""The emulated device: the kernels of ``kernels/*.cu`` on the CPU, compiled by g++, with NumPy's arrays.

``include/`` is CUDA for a host compiler: one fiber a CUDA thread, blocks over the machine's cores. What a GPU does not
tell is found here: barriers and warp collectives that not all threads reach, and, by the settings of ``backend``,
missing barriers (orders of threads that disagree), missing waits for asynchronous copies, accesses out of bounds
(AddressSanitizer) and races (ThreadSanitizer).
"""

from .backend import Emulator

backend = Emulator()

__all__ = ["backend"]
