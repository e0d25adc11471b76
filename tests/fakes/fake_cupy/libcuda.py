"""The fake driver: what ``ctypes.CDLL("libcuda.so.1")`` finds."""

import ctypes

from . import faults, streams

_NAME, _VERSION = "libcuda.so.1", 13000


class Library(ctypes.CDLL):
    """``ctypes.CDLL``, but for the driver."""

    def __new__(cls, name=None, *arguments, **options):
        if name != _NAME:
            return super().__new__(cls)
        if faults.lacks("driver"):
            raise OSError(f"{_NAME}: cannot open shared object file: No such file or directory")
        return _OldDriver() if faults.lacks("priorities") else _Driver()


class _OldDriver:
    def cuDriverGetVersion(self, version):
        version._obj.value = _VERSION
        return 0


class _Driver(_OldDriver):
    def cuGraphInstantiateWithFlags(self, executable, graph, flags):
        executable._obj.value = streams.instantiate(graph.value, flags.value)
        return 0
