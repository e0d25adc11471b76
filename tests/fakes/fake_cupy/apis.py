"""The namespaces of CuPy that call CUDA's APIs by their own names."""

import re

from . import errors, faults, kernels, memory, queues, streams
from .gpus import GPU, NAME

_TILE = re.compile(r"#define TILE (.*)\n")
# The rest is for show: the caches are small, so that benchmarks soon have emptied them.
_ATTRIBUTES = {
    "MultiProcessorCount": GPU.multiprocessors,
    "MaxSharedMemoryPerBlockOptin": GPU.shared_bytes,
    **dict.fromkeys(("ClockRate", "MemoryClockRate", "L2CacheSize", "GlobalMemoryBusWidth"), 1_000_000),
}


class Device:
    compute_capability = str(GPU.capability)

    def __init__(self, number=0):
        assert number == 0, "there is one GPU"
        self.id = number

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def synchronize(self):
        streams.refuse_while_capturing()
        queues.finish_all()


def runtime():
    names = list(_ATTRIBUTES)
    return {
        "CUDARuntimeError": errors.CUDARuntimeError,
        "runtimeGetVersion": lambda: 13000,
        "getDeviceCount": lambda: 1,
        "memGetInfo": _memory_info,
        "getDeviceProperties": lambda number: {
            "name": f"a fake {NAME}".encode(),
            "totalGlobalMem": GPU.memory_bytes,
        },
        "deviceGetAttribute": lambda attribute, number: _ATTRIBUTES[names[attribute]],
        **{f"cudaDevAttr{name}": number for number, name in enumerate(names)},
        "graphUpload": lambda graph, stream: streams.executables[graph].upload(streams.stream_at(stream)),
        "graphLaunch": lambda graph, stream: streams.executables[graph].launch(streams.stream_at(stream)),
        "graphExecDestroy": streams.executables.pop,
    }


def _memory_info():
    errors.check()
    return memory.pool.most - memory.pool.total_bytes, memory.pool.most


def driver():
    return {
        "CUDADriverError": errors.CUDADriverError,
        "CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES": kernels.STATIC,
        "CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES": kernels.MOST_DYNAMIC,
        "CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT": kernels.CARVEOUT,
        "funcGetAttribute": lambda attribute, function: kernels.functions[function].attributes[attribute],
        "funcSetAttribute": lambda function, *pair: kernels.functions[function].set_attribute(*pair),
    }


def nvrtc():
    return {
        "NVRTCError": errors.NVRTCError,
        "getVersion": _compiler_version,
        "getSupportedArchs": lambda: (80, 86, 89, 90, 100, 120),
        "createProgram": lambda text, name, headers, names: f"{name}#{tile[1] if (tile := _TILE.match(text)) else ''}",
        "compileProgram": lambda program, options: None,
        "getPTX": lambda program: b"",
        "getCUBIN": str.encode,
        "getProgramLog": lambda program: "",
        "destroyProgram": lambda program: None,
    }


def _compiler_version():
    if faults.lacks("nvrtc"):
        raise RuntimeError(
            "CuPy failed to load libnvrtc.so.13: OSError: libnvrtc.so.13: cannot open shared object file"
        )
    return 13, 99_999  # of no real compiler, so that its "cubins" are taken for no real ones
