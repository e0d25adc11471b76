"""The command that finds the galaxies of a pack."""

from __future__ import annotations

import argparse

from .command import DONE, Commands, add_command
from .options import add_workers


def add_parser(commands: Commands) -> None:
    """Add ``gzkern recentre``."""
    parser = add_command(
        commands,
        "recentre",
        execute,
        "Find the galaxies of a pack, for configurations that recentre.",
        "They are stored in the pack, as objects_gen1.csv and objects_gen2.csv. Training and evaluation\n"
        "do the same where it is not done yet. Needs sep: pip install gzkern[astro].",
    )
    parser.add_argument("pack", metavar="PACK", help="a pack of whole images")
    parser.add_argument(
        "--set",
        choices=("gen1", "gen2", "both"),
        default="both",
        help="objects 10 sigma (gen1) or 2 sigma (gen2) above the background (default: %(default)s)",
    )
    add_workers(parser, "processes that look for galaxies (default: auto, one a core)")
    parser.add_argument("--overwrite", action="store_true", help="find them anew")


def execute(options: argparse.Namespace) -> int:
    """Write the objects of a pack, and print how many images have none."""
    from ..data.recentring import recentre

    sets = ("gen1", "gen2") if options.set == "both" else (options.set,)
    for path, images, missing in recentre(options.pack, sets, workers=options.workers, overwrite=options.overwrite):
        print(f"wrote {path}: {images:,} images, {missing:,} of them without an object")
    return DONE
