"""The command that compiles all kernels."""

from __future__ import annotations

import argparse

from .command import DONE, Commands, add_command
from .options import PREDICTION_PRECISIONS, add_device


def add_parser(commands: Commands) -> None:
    """Add ``gzkern warmup``."""
    parser = add_command(
        commands,
        "warmup",
        execute,
        "Compile all kernels, so that the first run need not.",
        "On a GPU also those of the published network's layers, which are compiled for their sizes and a precision.\n"
        "What is compiled is kept in the cache that gzkern info names. Device cpu has no kernels.",
    )
    add_device(parser)
    text = f"some of {', '.join(PREDICTION_PRECISIONS)} with commas, or all (default: fp32)"
    parser.add_argument("--precision", type=_precisions, metavar="P[,P…]|all", help=text)
    parser.add_argument(
        "--batch", type=_batches, metavar="B[,B…]", help="images of a step, some with commas (default: 16)"
    )


def execute(options: argparse.Namespace) -> int:
    """Compile the kernels of the selected device, and print the seconds that each took."""
    from itertools import chain, product

    from ..config import load_config
    from ..device import select
    from ..models.algorithms import compiled
    from ..runtime import source
    from ..runtime.backend import Unit

    name = select(options.device).name
    if name == "cpu":
        print("device cpu has no kernels; its code is compiled, and kept, when it is first called")
        return DONE
    units: list[Unit] = [(stem, ()) for stem in source.stems_for_every_size()]
    if name == "cuda":
        from ..runtime.cuda_backend import backend as cuda

        limits = cuda().limits
        batches = options.batch or [load_config("paper").train.batch]
        tiles = (compiled(limits, *each) for each in product(batches, options.precision or ["fp32"]))
        units += dict.fromkeys(chain.from_iterable(tiles))
        compile_all = cuda().compile_all
    else:  # where the published network is too slow for anyone to ask for it
        from ..runtime.emulator import backend

        compile_all = backend.compile_all
    print(f"compiling {len(units)} files for device {name}", flush=True)
    for (file, tile), seconds in compile_all(units).items():
        arguments = f" <{', '.join(map(str, tile))}>" if tile else ""
        print(f"{seconds:7.2f} s  {file}{arguments}")
    return DONE


def _precisions(text: str) -> list[str]:
    found = list(PREDICTION_PRECISIONS) if text == "all" else text.split(",")
    if not set(found) <= set(PREDICTION_PRECISIONS):
        raise argparse.ArgumentTypeError(f"{text!r}: expected all or some of {','.join(PREDICTION_PRECISIONS)}")
    return found


def _batches(text: str) -> list[int]:
    found = text.split(",")
    if not all(part.isdecimal() and int(part) > 0 for part in found):
        raise argparse.ArgumentTypeError(f"{text!r}: expected numbers of images, from 1 on, with commas")
    return [int(part) for part in found]
