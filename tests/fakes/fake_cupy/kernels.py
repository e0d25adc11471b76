"""Kernels: loaded from what the fake NVRTC made, launched on the emulated device, within the limits of the fake GPU."""

from itertools import count
from pathlib import Path

import numpy as np

from . import errors, faults, streams
from .arrays import ndarray
from .gpus import GPU
from .static_shared import static_bytes

STATIC, MOST_DYNAMIC, CARVEOUT = 1, 8, 9  # CUfunction_attribute
WITHOUT_OPT_IN = 48 << 10
functions = {}  # by handle
_handles = count(1)


class Module:
    """A "cubin" of the fake NVRTC is the name of its source, and its tile."""

    def load(self, image):
        assert type(image) is bytes
        name, _, tile = image.rstrip(b"\0").decode().partition("#")
        self.tile = tuple(map(int, tile.split(","))) if tile else ()
        path = Path(name)
        self.file = path if path.is_absolute() else path.relative_to("kernels").with_suffix("").as_posix()

    def get_function(self, name):
        return Function(self.file, name, self.tile)


class Function:
    """``attributes`` are those that were set, and the static shared memory."""

    def __init__(self, file, name, tile):
        from gzkern.runtime.emulator import (
            backend,  # not before the first use: this fake may be imported at Python's start
        )

        self.name, self._run = name, backend.get_function(file, name, tile)
        self.attributes = {STATIC: static_bytes(file, name, tile)}
        self.ptr = next(_handles)
        functions[self.ptr] = self

    def __call__(self, grid, block, args, shared_mem=0):
        values = [argument.held if isinstance(argument, ndarray) else argument for argument in args]
        assert all(isinstance(value, np.ndarray | np.generic) for value in values)
        assert not any(isinstance(argument, np.ndarray) for argument in args), "an array of the host in a launch"
        self._check(shared_mem)

        def launch():
            if "wgmma" in self.name and GPU.capability != 90:
                return errors.break_context(errors.LAUNCH_FAILURE)  # its code is a trap there
            return faults.run(self.name, lambda: self._run(grid, block, values, shared_mem), values)

        streams.current().put(launch, self.name)

    def set_attribute(self, attribute, value):
        errors.check()
        if attribute == MOST_DYNAMIC and value > GPU.shared_bytes - self.attributes[STATIC]:
            raise errors.CUDADriverError(errors.INVALID_VALUE)
        assert attribute in (MOST_DYNAMIC, CARVEOUT)
        self.attributes[attribute] = value

    def _check(self, dynamic):
        """Refuse more shared memory than was opted in to, or by default."""
        static = self.attributes[STATIC]
        most = max(self.attributes.get(MOST_DYNAMIC, 0), WITHOUT_OPT_IN - static)
        if dynamic > most or static + dynamic > GPU.shared_bytes:
            raise errors.CUDADriverError(errors.INVALID_VALUE)
