"""Costs of the emulated device: threads, barriers, shuffles, launches, and a dense product.

python -m benchmarks.emulator --json benchmarks/results/emulator.json
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from gzkern.cuda.dense import forward as dense_forward
from gzkern.device import select
from gzkern.runtime.kernel import Geometry, Kernel

from .harness.command import call, new_parser
from .harness.options import file
from .harness.report import print_table, write_rows

SOURCE = """
extern "C" __global__ void threads(float* x, unsigned n) {
  const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) x[i] += 1;
}
extern "C" __global__ void barriers(float* x, unsigned n) {
  for (unsigned i = 0; i < n; i++) __syncthreads();
  x[0] = n;
}
extern "C" __global__ void shuffles(float* x, unsigned n) {
  float value = threadIdx.x;
  for (unsigned i = 0; i < n; i++) value = __shfl_xor_sync(0xffffffffu, value, 1);
  x[threadIdx.x] = value;
}
"""
REPEATS, THREADS, TIMES = 7, 256, 1000


def main(arguments: list[str] | None = None) -> int:
    """Measure, print, write."""
    parser = new_parser("benchmarks.emulator", __doc__)
    parser.add_argument("--json", metavar="FILE", type=file, help="write the rows")
    options = parser.parse_args(arguments)
    device = select("emulated")
    with tempfile.TemporaryDirectory() as folder:
        costs = Path(folder, "costs.cu")
        costs.write_text(SOURCE, encoding="utf-8")
        rows = [{"name": name, "value": float(f"{value:.3g}"), "unit": unit} for name, value, unit in measure(costs)]
    print_table(rows, ["name", "value", "unit"])
    if options.json:
        write_rows(options.json, rows, device.describe())
    return 0


def measure(file: Path) -> Iterator[tuple[str, float, str]]:
    """Name, median and unit of each cost; of one core but for the dense product."""
    from gzkern.runtime.emulator import backend

    x = np.zeros(1 << 20, np.float32)

    def seconds(name: str, grid: int, block: int, count: int) -> float:
        geometry, kernel = Geometry((grid,), (block,)), Kernel(file, name)
        return _median(lambda: kernel(backend, geometry, x, np.uint32(count)))

    cores, backend.threads = backend.threads, 1
    try:
        launch = seconds("threads", 1, 32, 0)
        yield "launch from Python", 1e6 * launch, "µs"
        yield "thread without barriers", 1e9 * seconds("threads", x.size // THREADS, THREADS, x.size) / x.size, "ns"
        for name, what in (("barriers", "__syncthreads"), ("shuffles", "shuffle")):
            yield f"{what}, a thread", 1e9 * (seconds(name, 1, THREADS, TIMES) - launch) / (THREADS * TIMES), "ns"
    finally:
        backend.threads = cores
    rng = np.random.default_rng(0)
    a, weight = rng.standard_normal((512, 256), np.float32), rng.standard_normal((512, 512), np.float32)
    taken = _median(lambda: dense_forward.product(a, weight))
    yield "dense product 512×512×256, all cores", 2 * 512 * 512 * 256 / taken / 1e9, "GFLOP/s"


def _median(call: Callable[[], Any]) -> float:
    call()  # compiles
    taken = []
    for _ in range(REPEATS):
        begin = time.perf_counter()
        call()
        taken.append(time.perf_counter() - begin)
    return statistics.median(taken)


if __name__ == "__main__":
    call(main)
