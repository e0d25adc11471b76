"""Honest times: contenders take turns, caches are cold or warm on purpose, and the host never keeps a GPU waiting."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from gzkern.runtime.backend import Backend
from gzkern.runtime.kernel import Geometry, Kernel

Call = Callable[[], Any]

SPIN = Kernel(Path(__file__).with_name("spin.cu"), "spin")
SHORTEST = 200e-6  # seconds that a warm sample should last, many calls if need be
MOST_CALLS = 100  # of a sample; a GPU's queue holds 1,024 launches
WARM_UPS = 3
_CPU_CACHE = 128 << 20  # bytes; more than most processors have


class Stopwatch(Protocol):
    """The clock of a device."""

    def time(self, call: Call, count: int, cold: bool, ahead: float) -> tuple[float, float]:
        """Time ``count`` calls, one right after the other.

        Args:
            call: what is timed; it need not wait for its result.
            count: how often.
            cold: empty the caches before.
            ahead: seconds for which to keep the device busy before, in which the host prepares the calls.

        Returns:
            Seconds that the device took for all calls, and seconds that the host took to make them.
        """


class CpuStopwatch:
    """Wall-clock time; a cold cache is one full of something else."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter, cache_bytes: int = _CPU_CACHE):
        self._clock = clock
        self._other = np.zeros(cache_bytes, np.uint8)

    def time(self, call: Call, count: int, cold: bool, ahead: float) -> tuple[float, float]:
        """See :class:`Stopwatch`; calls return when their result is there."""
        if cold:
            self._other += 1
        begin = self._clock()
        for _ in range(count):
            call()
        taken = self._clock() - begin
        return taken, taken


class CudaStopwatch:
    """CUDA events on the default stream, which CuPy, PyTorch and cuDNN share here.

    The GPU spins while the host makes the calls, so that they run one right after the other and no time of Python's is
    measured. A cold cache is one that was just overwritten by three times its size, as Triton's do_bench does.
    """

    def __init__(self, backend: Backend, l2_bytes: int):
        self._backend = backend
        self._other = backend.empty((3 * l2_bytes,), np.uint8)

    def time(self, call: Call, count: int, cold: bool, ahead: float) -> tuple[float, float]:
        """See :class:`Stopwatch`."""
        from cupy.cuda import Event, get_elapsed_time

        start, stop = Event(), Event()
        SPIN(self._backend, Geometry((1,), (1,)), np.int64(1e9 * ahead))
        if cold:
            self._other.fill(0)
        start.record()
        begin = time.perf_counter()
        for _ in range(count):
            call()
        host = time.perf_counter() - begin
        stop.record()
        stop.synchronize()
        return 1e-3 * get_elapsed_time(start, stop), host


class Timed:
    """One contender under the stopwatch."""

    def __init__(self, call: Call, stopwatch: Stopwatch, cold: bool):
        self._call, self._stopwatch, self._cold = call, stopwatch, cold
        self._count, self._ahead = 1, 1e-3
        stopwatch.time(call, 1, False, 0.0)  # compiles, allocates
        warm_ups = [self.sample() for _ in range(WARM_UPS)]
        if not cold:
            self._count = min(max(int(SHORTEST / max(min(warm_ups), 1e-9)), 1), MOST_CALLS)

    def sample(self) -> float:
        """Seconds of one call."""
        ahead = min(self._ahead * self._count, 0.1)
        taken, host = self._stopwatch.time(self._call, self._count, self._cold, ahead)
        self._ahead = max(self._ahead, 1.5 * host / self._count)
        return taken / self._count


def interleave(calls: Mapping[str, Call], stopwatch: Stopwatch, samples: int, cold: bool) -> dict[str, list[float]]:
    """Seconds a call, ``samples`` of each contender, which take turns: A, B, C, A, B, C, …."""
    timed = {name: Timed(call, stopwatch, cold) for name, call in calls.items()}
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(samples):
        for name, contender in timed.items():
            seconds[name].append(contender.sample())
    return seconds


def ranked(calls: Mapping[str, Call], stopwatch: Stopwatch, refused: dict[str, str]) -> list[str]:
    """Contenders, fastest first, by a few samples with cold caches; those that fail go into ``refused``."""
    best: dict[str, float] = {}
    for name, call in calls.items():
        try:
            stopwatch.time(call, 1, False, 0.0)
            taken = stopwatch.time(call, 1, True, 1e-3)[0]
            if taken < 3 * min(best.values(), default=taken):  # else it is out already
                taken = min(taken, *(stopwatch.time(call, 1, True, 1e-3)[0] for _ in range(2)))
            best[name] = taken
        except Exception as error:  # whatever a library raises where it cannot
            refused[name] = str(error).strip().partition("\n")[0]
    return sorted(best, key=lambda name: best[name])
