"""Our convolutions against cuDNN's and PyTorch's, at the sizes of the published network.

python -m benchmarks.conv --json benchmarks/results/conv_cuda.json --png conv.png
python -m benchmarks.conv --device cpu --baseline torch --samples 15 --json benchmarks/results/conv_cpu.json
python -m benchmarks.conv --device emulated

Every pass is measured as the network has it (with bias, ReLU and pool) and alone (variant "plain"). Batches that only
predict (1, 64, 960) have the forward pass alone; conv1 has no gradient of its data.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from gzkern.core.shapes import BACKWARD_DATA, FORWARD

from .harness.command import call, new_parser
from .harness.comparison import compare
from .harness.measuring import new_harness
from .harness.options import add_common, batches_of, chosen, picture
from .harness.problems.conv2d import ConvProblem
from .harness.problems.layers import LAYERS, PASSES, published, small
from .harness.roofline import draw
from .harness.verify import PRECISIONS

PREDICTION = (1, 64, 960)  # images; 960 are 16 with 60 transformations each
_BY_COST = ("conv2", "conv1", "conv3", "conv4")


def main(arguments: list[str] | None = None) -> int:
    """Measure, print, write and draw; 1 if a row must not be believed."""
    options = _parse(arguments)
    here = new_harness(options.device, options.samples, options.minutes)
    rows, code = compare(convolutions(options), here, options.baseline, options.json)
    if options.png and any(row["ms"] for row in rows):
        draw(rows, here.peaks, options.png)
    return code


def convolutions(options: argparse.Namespace, plain: tuple[bool, ...] = (False, True)) -> Iterator[ConvProblem]:
    """Yield the problems asked for, most telling first: by precision as given, by batch, then by cost of the layer."""
    for precision in options.precision:
        for batch in batches_of(options):
            for is_plain in plain:
                for pass_name in options.pass_:
                    for layer in sorted(options.layer, key=_BY_COST.index):
                        if _is_computed(layer, pass_name, batch):
                            sizes, epilogue = published(layer, batch)
                            sizes = small(sizes) if options.device == "emulated" else sizes
                            yield ConvProblem(
                                layer, pass_name, "plain" if is_plain else epilogue, precision, batch, sizes
                            )


def _is_computed(layer: str, pass_name: str, batch: int) -> bool:
    return pass_name == FORWARD or (batch not in PREDICTION and (layer, pass_name) != ("conv1", BACKWARD_DATA))


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = new_parser("benchmarks.conv", __doc__)
    layers, passes = chosen("layer", LAYERS, everything=True), chosen("pass", PASSES, everything=True)
    parser.add_argument("--layer", type=layers, default=list(LAYERS), help="all, or some with commas")
    parser.add_argument("--pass", dest="pass_", type=passes, default=list(PASSES), help="all, or some with commas")
    precisions = chosen("precision", PRECISIONS, everything=True)
    parser.add_argument("--precision", type=precisions, default=list(PRECISIONS), help="all, or some with commas")
    add_common(parser, "cudnn,torch")
    parser.add_argument("--png", metavar="FILE", type=picture, help="draw the roofline")
    options = parser.parse_args(arguments)
    if "cublas" in options.baseline:
        parser.error("baseline cublas: has no convolutions; see python -m benchmarks.ops")
    if not any(True for _ in convolutions(options)):
        parser.error("nothing to measure: conv1 has no gradient of its data, nor have batches that only predict")
    return options


if __name__ == "__main__":
    call(main)
