"""A fake CuPy over the emulated device, as strict as CUDA, and as late as CUDA may be.

``pytest -p fake_cupy -m gpu`` runs the tests that need a GPU without one. With ``tests`` and ``tests/fake_site`` on the
PYTHONPATH, ``FAKE_GPU=RTX4090 python -m …`` runs any command so. Environment variables:

- ``FAKE_GPU``: a name of ``gpus.GPUS``;
- ``FAKE_GPU_POLICY``: when queued work runs, see ``queues``;
- ``FAKE_GPU_FAULT``: what breaks, see ``faults``.
"""

import ctypes
import sys
from types import ModuleType, SimpleNamespace

from . import apis, errors, kernels, libcuda, memory, streams
from .apis import Device
from .arrays import asarray, asnumpy, empty, empty_pinned, ndarray

__all__ = ["Device", "asarray", "asnumpy", "cuda", "empty", "empty_pinned", "ndarray"]
__version__ = "14"


def _module(name, **attributes):
    module = ModuleType(name)
    vars(module).update(attributes)
    sys.modules[name] = module
    return module


cuda = _module(
    "cupy.cuda",
    runtime=_module("cupy.cuda.runtime", **apis.runtime()),
    driver=_module("cupy.cuda.driver", **apis.driver()),
    nvrtc=_module("cupy.cuda.nvrtc", **apis.nvrtc()),
    function=_module("cupy.cuda.function", Module=kernels.Module),
    memory=_module("cupy.cuda.memory", OutOfMemoryError=errors.OutOfMemoryError),
    nvtx=SimpleNamespace(available=False),
    Device=Device,
    Event=streams.Event,
    Stream=streams.Stream,
    get_current_stream=streams.current,
    get_elapsed_time=streams.get_elapsed_time,
    set_allocator=lambda allocator: None,
)
_module("cupyx", empty_pinned=empty_pinned)
_module("cupyx.profiler", time_range=None)


def get_default_memory_pool():
    return SimpleNamespace(total_bytes=lambda: memory.pool.total_bytes, free_all_blocks=memory.pool.free_all_blocks)


ctypes.CDLL = libcuda.Library
sys.modules["cupy"] = sys.modules[__name__]
