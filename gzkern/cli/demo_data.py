"""The command that draws synthetic galaxies."""

from __future__ import annotations

import argparse
from pathlib import Path

from .command import DONE, Commands, add_command


def add_parser(commands: Commands) -> None:
    """Add ``gzkern demo-data``."""
    parser = add_command(
        commands,
        "demo-data",
        execute,
        "Draw a set of synthetic galaxies with the answers of simulated volunteers.",
        "The folder has the Kaggle layout; the same --count and --seed give the same files.",
    )
    parser.add_argument("out", metavar="OUT", type=Path, help="the folder to write")
    parser.add_argument("--count", type=int, default=400, metavar="N", help="number of images (default: %(default)s)")
    parser.add_argument("--seed", type=int, metavar="S", default=0, help="which galaxies are drawn (default: 0)")


def execute(options: argparse.Namespace) -> int:
    """Draw the demonstration set."""
    from tqdm import tqdm

    from ..core.processes import cores
    from ..data.demo import draw_demo_set

    with tqdm(total=options.count, unit="image") as bar:
        draw_demo_set(options.out, options.count, options.seed, workers=cores(), progress=bar.update)
    print(f"wrote {options.out}: {options.count} images, training_solutions_rev1.csv")
    return DONE
