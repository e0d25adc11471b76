"""``benchmarks.train_step --device cuda`` on a fake CuPy; the engines' processes begin here, too."""

import sys

import fake_cupy  # noqa: F401

from benchmarks.harness import engines

engines.SHORTEST, engines.WARM_UPS = 1e-6, 1

from benchmarks import train_step  # noqa: E402
from benchmarks.harness import gzkern_engine  # noqa: E402

gzkern_engine.LOOKS = 1

if __name__ == "__main__":
    sys.exit(train_step.main(["--device", "cuda", *sys.argv[1:]]))
