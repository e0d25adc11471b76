"""The command that trains a network."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..config import PRECISIONS
from ..errors import InputError
from .command import DONE, FAILED, Commands, add_command
from .options import add_compute, add_workers


def add_parser(commands: Commands) -> None:
    """Add ``gzkern train``."""
    parser = add_command(
        commands,
        "train",
        execute,
        "Train a network on labelled galaxy images.",
        "Writes the run directory RUN. Ctrl-C stops after the current step with a checkpoint;\n"
        "the same command with --resume goes on, bit for bit as if it had never stopped.",
    )
    parser.add_argument("--data", required=True, metavar="DIR", help="a pack, or a folder in the Kaggle layout")
    parser.add_argument("--out", required=True, metavar="RUN", help="the run directory to write")
    parser.add_argument(
        "--config",
        metavar="NAME|FILE",
        help="paper (as published; the default), laptop (minutes), or a TOML file",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="SECTION.KEY=VALUE",
        help="change one setting, e.g. --set train.lr=0.05; may be repeated",
    )
    parser.add_argument("--seed", type=int, metavar="S", help="of initialisation, order, augmentation and dropout")
    add_workers(
        parser, "threads that augment on the CPU (default: auto, all cores but one for a GPU, else one; 0: none)"
    )
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint in RUN")
    parser.add_argument("--overwrite", action="store_true", help="delete the run in RUN first")
    parser.add_argument(
        "--augment-on",
        choices=("auto", "device", "cpu"),
        default="auto",
        help="where images are perturbed (default: on the device, where they fit into its memory)",
    )
    add_compute(parser, PRECISIONS, "fp32")


def execute(options: argparse.Namespace) -> int:
    """Train, and print what was written; exit code 1 where inputs were skipped."""
    from ..config import load_config
    from ..training.loop import train

    overrides = list(options.set)
    overrides += [
        f"train.{key}={value}" for key in ("batch", "seed", "precision") if (value := getattr(options, key)) is not None
    ]
    stored = Path(options.out) / "config.toml"
    if options.resume and not stored.is_file():
        raise InputError(f"{options.out}: nothing to resume (no config.toml in it); leave --resume out to start a run")
    source = options.config or (stored if options.resume else "paper")
    config = load_config(source, overrides)
    run = train(
        config,
        options.data,
        options.out,
        device=options.device,
        workers=options.workers,
        threads=options.threads,
        resume=options.resume,
        overwrite=options.overwrite,
        augment_on=options.augment_on,
    )
    print(f"wrote {run.path}: weights.safetensors, config.toml, metrics.jsonl, environment.json, checkpoints/")
    return FAILED if run.environment["data_skipped"] else DONE
