"""The command that scores a trained network."""

from __future__ import annotations

import argparse

from .command import DONE, FAILED, Commands, add_command, print_skipped
from .options import PREDICTION_PRECISIONS, add_compute, load_run


def add_parser(commands: Commands) -> None:
    """Add ``gzkern evaluate``."""
    parser = add_command(
        commands,
        "evaluate",
        execute,
        "Score a trained network on labelled images.",
        "Prints Kaggle's root mean squared error and, question by question, how often the likeliest\n"
        "answer is the volunteers'. On the data the run was trained on only the held-out part counts.\n"
        "What the answers mean is in docs/answers.md; gzkern list trees has the questions.",
    )
    parser.add_argument("run", metavar="RUN", help="a run directory")
    parser.add_argument("--data", required=True, metavar="DIR", help="a pack, or a folder in the Kaggle layout")
    parser.add_argument(
        "--split", choices=("validation", "train", "all"), help="score this part in place of the default"
    )
    add_compute(parser, PREDICTION_PRECISIONS, "that of the training, fp32 on the CPU")


def execute(options: argparse.Namespace) -> int:
    """Print the score of a run on a data set; exit code 1 where inputs were skipped."""
    from ..analysis.evaluation import evaluate
    from ..augment.geometry import reach
    from ..data.opening import open_dataset

    run = load_run(options)
    data = run.config.data
    dataset = open_dataset(options.data, run.network.tree, smallest=data.crop, reach=reach(data))
    part, result = evaluate(run, dataset, options.split, batch=options.batch)
    print(f"RMSE {result.rmse:.4f}")
    print(f"{result.images} images ({part}); accuracy where at least half the volunteers were asked:")
    for entry in result.questions:
        score = "     –" if entry.accuracy is None else f"{entry.accuracy:6.1%}"
        print(f"  Q{entry.question.id:<3}{score} of {entry.images:5d}  {entry.question.text}")
    return FAILED if print_skipped(dataset.quarantined) else DONE
