"""The ceilings of this GPU that no datasheet gives: copies, the gap between launches, the time of a launch.

python -m benchmarks.bandwidth --json bandwidth.json

Copies on the device count bytes read and bytes written. The gap is what each further empty kernel adds to a CUDA graph
of one branch: benchmarks/profile/timeline.py assumes one for its PREDICTED steps. The time of a launch is the host's.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from gzkern.device import select
from gzkern.runtime.kernel import Geometry

from .harness.command import call, new_parser
from .harness.options import file, positive
from .harness.report import print_table, write_rows
from .harness.timing import SPIN

_COLUMNS = ("name", "bytes", "gb_s", "us")
_LAUNCHES = 200
_IDLE = np.int64(0)  # nanoseconds of a kernel that does nothing


def main(arguments: list[str] | None = None) -> int:
    """Measure, print, write."""
    options = _parse(arguments)
    device = select("cuda")
    rows = list(_copies(options.mib << 20, options.samples)) + list(_launches(device.backend, options.samples))
    print_table(rows, _COLUMNS)
    if options.json:
        from gzkern.runtime.gpu import describe

        write_rows(options.json, rows, {**describe(0), **device.describe()})
    return 0


def _copies(size: int, samples: int) -> Iterator[dict[str, Any]]:
    """Measure copies of so many bytes: on the device, from page-locked memory, and back to it."""
    import cupy
    import cupyx

    source, target = cupy.empty((size,), np.uint8), cupy.empty((size,), np.uint8)
    host = cupyx.empty_pinned((size,), np.uint8)
    host[...] = 1
    copies: dict[str, tuple[Callable[[], Any], int]] = {
        "copy on the device": (lambda: target.data.copy_from_device_async(source.data, size), 2 * size),
        "copy to the device": (lambda: source.set(host), size),
        "copy from the device": (lambda: source.get(out=host), size),
    }
    for name, (copy, moved) in copies.items():
        copy()
        seconds = statistics.median(_seconds(copy) for _ in range(samples))
        yield {"name": name, "bytes": moved, "gb_s": round(1e-9 * moved / seconds, 1), "us": round(1e6 * seconds, 1)}


def _launches(backend: Any, samples: int) -> Iterator[dict[str, Any]]:
    """Measure what a launch costs the host, and what a kernel more costs a CUDA graph."""

    def launch() -> None:
        SPIN(backend, Geometry((1,), (1,)), _IDLE)

    launch()
    hosts = []
    for _ in range(samples):
        begin = time.perf_counter()
        for _ in range(_LAUNCHES):
            launch()
        hosts.append((time.perf_counter() - begin) / _LAUNCHES)
        _synchronize()
    yield {"name": "launch, host", "us": round(1e6 * statistics.median(hosts), 2)}
    graphs = {count: backend.replay([launch] * count, [False] * count) for count in (1, 1 + _LAUNCHES)}
    seconds = {count: statistics.median(_seconds(play) for _ in range(samples)) for count, play in graphs.items()}
    gap = (seconds[1 + _LAUNCHES] - seconds[1]) / _LAUNCHES
    yield {"name": "launch, in a CUDA graph", "us": round(1e6 * gap, 2)}


def _seconds(call: Callable[[], Any]) -> float:
    """Time a call between two CUDA events."""
    from cupy.cuda import Event, get_elapsed_time

    start, stop = Event(), Event()
    start.record()
    call()
    stop.record()
    stop.synchronize()
    return 1e-3 * float(get_elapsed_time(start, stop))


def _synchronize() -> None:
    from cupy.cuda import get_current_stream

    get_current_stream().synchronize()


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = new_parser("benchmarks.bandwidth", __doc__)
    parser.add_argument("--mib", type=positive, default=1024, help="MiB of a copy (default: %(default)s)")
    parser.add_argument("--samples", type=positive, default=20, help="medians of so many (default: %(default)s)")
    parser.add_argument("--json", metavar="FILE", type=file, help="write the rows")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    call(main)
