"""The command that predicts answers for images."""

from __future__ import annotations

import argparse

from .command import DONE, FAILED, Commands, add_command, print_skipped
from .options import PREDICTION_PRECISIONS, add_compute, add_workers, load_run


def add_parser(commands: Commands) -> None:
    """Add ``gzkern predict``."""
    parser = add_command(
        commands,
        "predict",
        execute,
        "Predict the answers for images.",
        "Writes a table with a row an image and a column an answer; for Galaxy Zoo 2 the CSV is a valid\n"
        "Kaggle submission. What a value means is in docs/answers.md; gzkern list trees names the columns.\n"
        "Files that cannot be read are listed and skipped, and the exit code is 1.",
    )
    parser.add_argument("run", metavar="RUN", help="a run directory")
    parser.add_argument(
        "images",
        metavar="IMAGES",
        nargs="+",
        help="folders, image files, globs, or a catalogue (CSV, Parquet); or one pack",
    )
    parser.add_argument("--out", required=True, metavar="FILE", help="FILE.csv or FILE.parquet")
    add_workers(parser, "threads that decode (default: auto, one a core)")
    parser.add_argument("--overwrite", action="store_true", help="replace FILE")
    add_compute(parser, PREDICTION_PRECISIONS, "that of the training, fp32 on the CPU")


def execute(options: argparse.Namespace) -> int:
    """Write the table of answers; exit code 1 where inputs were skipped."""
    from ..prediction.files import predict_files

    run = load_run(options)
    summary = predict_files(
        run.predictor,
        run.config.data,
        options.images,
        options.out,
        batch=options.batch,
        workers=options.workers,
        overwrite=options.overwrite,
    )
    print(f"wrote {options.out}: {summary.predicted} images × {len(run.network.tree)} answers")
    return FAILED if print_skipped(summary.skipped) else DONE
