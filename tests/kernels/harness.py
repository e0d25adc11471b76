"""How a kernel is proved: cases that know their oracle, run on any device that launches kernels.

A case says what goes in, which binding is called, and how far the result may lie from float64. Running it also
checks what holds for every kernel: inputs unchanged, nothing written outside the outputs, every value of an
output written, the same bits when run again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

GUARD = 64  # elements before and after each array
POISON = True  # fill new arrays with what no kernel writes
_GUARD_BYTE = 0x5B


@dataclass(frozen=True)
class Case:
    """One call of a binding.

    Attributes:
        kernel: the ``extern "C"`` function that is proved, of the version that the call chooses.
        label: shape and form; with the kernel's name the test's id.
        inputs: makes the NumPy arrays by name, the same at each call.
        call: takes the device's arrays by name and returns an array or a tuple of arrays (None where there is none).
        check: takes the inputs and the results as NumPy arrays, raises AssertionError, and returns the largest
            error as a fraction of what is allowed (0 for exact results).
        mutates: inputs that the call updates in place; they are results too, after those that it returns.
        quick: part of ``make test`` and of the sanitizers' runs; the others are for ``make test-all``.
        shared: the kernel uses shared memory, so ThreadSanitizer runs it. Keep at least one such case a kernel
            small: at most 16 blocks.
    """

    kernel: str
    label: str
    inputs: Callable[[], dict[str, np.ndarray]]
    call: Callable[..., Any]
    check: Callable[[Mapping[str, np.ndarray], tuple[Any, ...]], float]
    mutates: tuple[str, ...] = ()
    quick: bool = False
    shared: bool = False

    @property
    def id(self) -> str:
        return f"{self.kernel}-{self.label}"


def prove(case: Case, backend: Any) -> float:
    """Run a case twice on a backend; the largest error as a fraction of the allowed one."""
    inputs = case.inputs()
    results, again = results_of(case, backend), results_of(case, backend)
    for first, second in zip(results, again, strict=True):
        assert_same_bits(first, second, "a second run")
    return case.check(inputs, results)


def equals(expected: Callable[..., Any]) -> Callable[..., float]:
    """A check of exact results: those of a function of the inputs."""

    def check(inputs: Mapping[str, np.ndarray], results: tuple[Any, ...]) -> float:
        wanted = expected(**inputs)
        for got, want in zip(results, wanted if isinstance(wanted, tuple) else (wanted,), strict=True):
            np.testing.assert_array_equal(got, want)
        return 0.0

    return check


def assert_same_bits(first: Any, second: Any, what: str) -> None:
    """Equal down to the sign of zero and the bits of NaN."""
    assert (first is None) == (second is None)
    if first is not None:
        assert first.shape == second.shape
        assert first.dtype == second.dtype
        different = np.frombuffer(first.tobytes(), np.uint8) != np.frombuffer(second.tobytes(), np.uint8)
        assert not different.any(), f"{what} differs in {different.sum()} of {different.size} bytes"


def results_of(case: Case, backend: Any) -> tuple[np.ndarray | None, ...]:
    """What one run of a case returns, as NumPy arrays, once it is known to have touched nothing else."""
    inputs = case.inputs()
    with _guarded(backend) as guards:
        arrays = {name: guards.put(array) for name, array in inputs.items()}
        returned = case.call(**arrays)
        returned = returned if isinstance(returned, tuple) else (returned,)
        returned += tuple(arrays[name] for name in case.mutates)
        results = tuple(None if r is None else backend.asnumpy(r).copy() for r in returned)
        guards.check()
        for name in inputs.keys() - set(case.mutates):
            assert_same_bits(backend.asnumpy(arrays[name]), np.asarray(inputs[name], order="C"), f"input {name}")
    return results


class _Guards:
    """Arrays with a band of known bytes before and after, from one backend."""

    def __init__(self, backend: Any, empty: Callable[..., Any]):
        self._backend, self._empty = backend, empty
        self._bands: list[tuple[Any, int, int]] = []

    def empty(self, shape: tuple[int, ...], dtype: Any = np.float32) -> Any:
        if not POISON:
            return self._empty(shape, dtype)
        # 0xFF: NaN, and a code byte that no kernel writes
        return self.put(
            np.full(int(np.prod(shape)) * np.dtype(dtype).itemsize, 0xFF, np.uint8).view(dtype).reshape(shape)
        )

    def put(self, array: np.ndarray) -> Any:
        """The array between its bands, put together on the host: the device's own code has no part in it."""
        band, size = GUARD * array.dtype.itemsize, array.nbytes
        host = np.full(size + 2 * band, _GUARD_BYTE, np.uint8)
        host[band : band + size] = np.frombuffer(array.tobytes(), np.uint8)
        whole = self._backend.asarray(host)
        self._bands.append((whole, band, size))
        return whole[band : band + size].view(array.dtype).reshape(array.shape)

    def check(self) -> None:
        for whole, band, size in self._bands:
            values = self._backend.asnumpy(whole)
            assert (values[:band] == _GUARD_BYTE).all(), "something was written before an array"
            assert (values[band + size :] == _GUARD_BYTE).all(), "something was written behind an array"


@contextmanager
def _guarded(backend: Any) -> Iterator[_Guards]:
    """Let the backend allocate guarded arrays only."""
    original = backend.empty
    guards = _Guards(backend, original)
    backend.empty = guards.empty
    try:
        yield guards
    finally:
        backend.empty = original
