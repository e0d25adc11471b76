"""Arrays of the device, which NumPy cannot see into, and copies between them and the host."""

from math import prod
from types import SimpleNamespace

import numpy as np

from . import memory, streams


class ndarray:
    """``held`` is the memory as NumPy has it; queued work keeps that, not ``owner``, as a GPU keeps an address."""

    __array_ufunc__ = None

    def __init__(self, owner, held):
        self._owner, self.held = owner, held

    shape = property(lambda self: self.held.shape)
    dtype = property(lambda self: self.held.dtype)
    size = property(lambda self: self.held.size)
    ndim = property(lambda self: self.held.ndim)
    nbytes = property(lambda self: self.held.nbytes)
    strides = property(lambda self: self.held.strides)
    flags = property(lambda self: SimpleNamespace(c_contiguous=self.held.flags.c_contiguous))
    device = property(lambda self: SimpleNamespace(id=0))
    data = property(lambda self: _Pointer(self.held))

    def __array__(self, *arguments, **options):
        raise TypeError("implicit conversion to a NumPy array is not allowed")

    def __len__(self):
        return len(self.held)

    def __getitem__(self, key):
        return ndarray(self._owner, np.asarray(self.held[key]))

    def __setitem__(self, key, value):
        raise TypeError("a kernel of CuPy's own would be launched for this")

    def reshape(self, *shape):
        return ndarray(self._owner, self.held.reshape(*shape))

    def view(self, dtype):
        return ndarray(self._owner, self.held.view(dtype))

    def set(self, values, stream=None):
        """Copy from the host, like cudaMemcpy without a stream, else like cudaMemcpyAsync.

        Page-locked memory is read when the copy runs; other memory is staged, that is, read now.
        """
        assert type(values) is np.ndarray
        assert values.flags.c_contiguous
        assert (values.shape, values.dtype) == (self.shape, self.dtype)
        if stream is None:
            streams.refuse_while_capturing()
            streams.default.queue.finish()
            self.held[...] = values
            return
        block = _page_locked(values)
        if block is None:
            streams.refuse_while_capturing()
        held, read = self.held, block.same(values) if block else values.copy()
        stream.put(lambda: np.copyto(held, read), "copy")

    def get(self, out):
        """Copy to the host, and wait for it, as CuPy does by default."""
        streams.refuse_while_capturing()
        streams.current().queue.finish()
        np.copyto(out, self.held)

    def fill(self, value):
        assert value == 0, "anything else is a kernel of CuPy's own"
        held = self.held
        streams.current().put(lambda: held.fill(0), "memset")


ndarray.__module__ = "cupy"


class _Pointer:
    """The address of an array."""

    def __init__(self, held):
        self._bytes, self.ptr = held.reshape(-1).view(np.uint8), held.__array_interface__["data"][0]

    def copy_from_device_async(self, source, size):
        to, read = self._bytes[:size], source._bytes[:size]
        streams.current().put(lambda: np.copyto(to, read), "copy")


def empty(shape, dtype):
    """An array of NaN, or 0xFF: as if what was launched before still wrote to its memory."""
    streams.refuse_while_capturing()
    shape = tuple(map(int, shape))
    owner = memory.pool.lend(prod(shape) * np.dtype(dtype).itemsize)
    held = owner.array(shape, dtype)
    bytes_held = held.reshape(-1).view(np.uint8)
    streams.current().put(lambda: bytes_held.fill(0xFF), "undefined")
    return ndarray(owner, held)


def asarray(array):
    if isinstance(array, ndarray):
        return array
    array = np.asarray(array, order="C")
    copy = empty(array.shape, array.dtype)
    copy.set(array, stream=streams.current())
    return copy


def asnumpy(array):
    if not isinstance(array, ndarray):
        return np.asarray(array)
    streams.refuse_while_capturing()
    streams.current().queue.finish()
    return array.held.copy()


class _PageLocked:
    """Memory of the host that goes back to its pool with the last array that is a view of it."""

    def __init__(self, size):
        self._owner = memory.page_locked.lend(size)
        self.whole = self._owner.array((size,), np.uint8)
        self.__array_interface__ = self.whole.__array_interface__

    def same(self, view):
        """A view of this memory that does not keep it from going back."""
        begin = view.__array_interface__["data"][0] - self.whole.__array_interface__["data"][0]
        return self.whole[begin : begin + view.nbytes].view(view.dtype).reshape(view.shape)


def empty_pinned(shape, dtype):
    streams.refuse_while_capturing()
    size = prod(shape) * np.dtype(dtype).itemsize
    return np.asarray(_PageLocked(size)).view(dtype).reshape(shape)


def _page_locked(array):
    """The page-locked memory that an array is a view of, or None."""
    while isinstance(array, np.ndarray):
        array = array.base
    return array if isinstance(array, _PageLocked) else None
