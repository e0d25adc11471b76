"""Options that several commands share."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..config import PRECISIONS
from ..errors import InputError

if TYPE_CHECKING:
    from ..runs.run import Run

PREDICTION_PRECISIONS = (*PRECISIONS, "bf16")


def add_device(parser: argparse.ArgumentParser) -> None:
    """Add ``--device``."""
    parser.add_argument(
        "--device",
        choices=("auto", "cpu", "cuda", "emulated"),
        help="where to compute (default: $GZKERN_DEVICE, else auto)",
    )


def add_compute(parser: argparse.ArgumentParser, precisions: Sequence[str], default: str) -> None:
    """Add the options of a computation: device, precision, batch and threads; ``default`` is that of the precision."""
    add_device(parser)
    parser.add_argument("--precision", choices=precisions, help=f"of the matrix products (default: {default})")
    parser.add_argument("--batch", type=int, metavar="B", help="images a network pass")
    parser.add_argument("--threads", type=int, metavar="N", help="compute threads (default: one a core)")


def add_workers(parser: argparse.ArgumentParser, help: str) -> None:
    """Add ``--workers``: a number, or None for "auto"."""
    parser.add_argument("--workers", type=_workers, metavar="N|auto", help=help)


def _workers(text: str) -> int | None:
    if text == "auto":
        return None
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected auto or a whole number, got {text!r}") from None


def load_run(options: argparse.Namespace) -> Run:
    """Load the run that a command predicts by, with the options of :func:`add_compute` checked and applied."""
    from ..device import require_precision, select, set_threads
    from ..runs.run import BATCH, load

    run = load(options.run, options.device, options.precision)
    if not run.weights_file.is_file():
        print(f"gzkern: {run.path} is not trained to its end; taking its last checkpoint", file=sys.stderr)
    device = select(options.device)
    if options.precision:
        require_precision(device, options.precision)
    set_threads(device, options.threads)
    if options.batch is None:
        options.batch = BATCH
    if options.batch < 1:
        raise InputError(f"--batch {options.batch}: expected at least 1 image")
    return run
