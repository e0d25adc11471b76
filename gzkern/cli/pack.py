"""The command that decodes a folder of images into a pack."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from .command import DONE, FAILED, Commands, add_command, print_skipped


def add_parser(commands: Commands) -> None:
    """Add ``gzkern pack``."""
    parser = add_command(
        commands,
        "pack",
        execute,
        "Decode a folder of images once, into a cache that training reads fast.",
        "Files that cannot be used are listed in quarantine.csv with the reason, and the exit code is 1.\n"
        "What an interrupted job has done is kept beside DIR; the same command with --resume goes on.",
    )
    parser.add_argument("folder", metavar="FOLDER", help="a folder of <id>.jpg, .png or .fits")
    parser.add_argument("--labels", metavar="CSV", help="answer fractions, a row an id (default: pack without labels)")
    parser.add_argument("--out", required=True, metavar="DIR", help="the pack to write")
    parser.add_argument(
        "--tree",
        default="galaxy_zoo_2",
        metavar="NAME|FILE",
        help="decision tree of the labels (default: %(default)s)",
    )
    parser.add_argument(
        "--crop",
        type=int,
        metavar="N",
        help="keep the central N×N pixels (386 is all that --config paper samples of 424; default: all)",
    )
    parser.add_argument("--resume", action="store_true", help="go on with the job that was interrupted")
    parser.add_argument(
        "--overwrite", action="store_true", help="replace DIR if it is a pack; drop what an interrupted job has done"
    )


def execute(options: argparse.Namespace) -> int:
    """Write the pack; exit code 1 where files were left out."""
    from ..data.pack import pack
    from ..decision_trees.tree import load_tree

    summary = pack(
        options.folder,
        options.labels,
        options.out,
        load_tree(options.tree),
        crop=options.crop,
        resume=options.resume,
        overwrite=options.overwrite,
    )
    height, width = summary.image_shape[:2]
    print(f"wrote {options.out}: {summary.count:,} images of {width}×{height} pixels")
    if not print_skipped(summary.quarantined):
        return DONE
    print(f"gzkern: all of them are listed in {Path(options.out, 'quarantine.csv')}", file=sys.stderr)
    return FAILED
