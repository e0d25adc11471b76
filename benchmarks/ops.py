"""Every operation that is no convolution, against cuBLAS, cuDNN's pools and PyTorch.

python -m benchmarks.ops --json benchmarks/results/ops_cuda.json
python -m benchmarks.ops --device cpu --baseline torch --samples 15
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from .harness.command import call, new_parser
from .harness.comparison import compare
from .harness.measuring import new_harness
from .harness.options import add_common, batches_of, chosen
from .harness.problems.operations import OPERATIONS
from .harness.problems.problem import Problem

TRAINING = (256, 16)  # images


def main(arguments: list[str] | None = None) -> int:
    """Measure, print and write; 1 if a row must not be believed."""
    parser = new_parser("benchmarks.ops", __doc__)
    ops = chosen("op", OPERATIONS, everything=True)
    parser.add_argument("--op", type=ops, default=list(OPERATIONS), help="all, or some with commas")
    add_common(parser, "cublas,cudnn,torch")
    options = parser.parse_args(arguments)
    here = new_harness(options.device, options.samples, options.minutes)
    _, code = compare(problems(options), here, options.baseline, options.json)
    return code


def problems(options: argparse.Namespace) -> Iterator[Problem]:
    """Yield the problems asked for, the most costly first."""
    sizes = options.batch or (TRAINING if options.device == "cuda" else batches_of(options))
    for op in options.op:
        for batch in sizes:
            yield from OPERATIONS[op](batch)


if __name__ == "__main__":
    call(main)
