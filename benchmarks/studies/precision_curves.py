"""Learning curves in each precision: the same run, seed by seed, but for its products.

python -m benchmarks.studies.precision_curves --device cuda --data PACK --out RUNS --json FILE
python -m benchmarks.studies.precision_curves --device cpu --data PACK --out RUNS --json FILE

A run lies in RUNS/<precision>-seed<number>: one that has ended is read, one that was stopped goes on. On the CPU, tf32
is a stand-in: see benchmarks/studies/rounding.py.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from gzkern.config import load_config
from gzkern.device import select
from gzkern.runs.run import Run, load
from gzkern.training.loop import train

from ..harness.command import call, new_parser
from ..harness.options import DEVICES, chosen, file, picture, positive
from ..harness.report import print_table, write_rows
from .precision import PRECISIONS, device_of, in_precision, precisions_of
from .rounding import CAVEAT

VALIDATIONS = 20  # of a run
_COLOURS = {"fp32": "#1f77b4", "tf32": "#d62728", "fp32x3": "#2ca02c"}


def main(arguments: list[str] | None = None) -> int:
    """Train, print where each run ended, write JSON and draw."""
    options = _parse(arguments)
    runs = {(p, seed): _trained(options, p, seed) for seed in options.seeds for p in options.precision}
    rows = [row for (precision, seed), run in runs.items() for row in curve(run, precision, seed)]
    print_table([row for row in rows if row["examples"] == rows[-1]["examples"]], [*rows[-1]])
    facts = {
        "device": options.device,
        "config": options.config,
        "set": options.set,
        **select(options.device).describe(),
    }
    facts["data_fingerprint"] = next(iter(runs.values())).environment["data_fingerprint"]
    if options.device == "cpu":
        facts["tf32"] = CAVEAT
    if options.json:
        write_rows(options.json, rows, facts)
    if options.png:
        draw(rows, f"cpu; tf32: {CAVEAT}" if options.device == "cpu" else options.device, options.png)
    return 0


def curve(run: Run, precision: str, seed: int) -> Iterator[dict[str, Any]]:
    """A row a validation: its RMSE, and that of the training examples since the one before, dropped out."""
    losses: list[float] = []
    for line in run.metrics:
        losses.append(line["loss"])
        if line["valid_rmse"] is not None:
            scores = {"train_rmse": fmean(losses) ** 0.5, "valid_rmse": line["valid_rmse"]}
            yield {"precision": precision, "seed": seed, "examples": line["examples"], **scores}
            losses = []


def draw(rows: Sequence[dict[str, Any]], title: str, path: str) -> None:
    """Write a PNG: a panel for training and one for validation, a line a run, a colour a precision."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4), layout="constrained")
    panels = figure.subplots(1, 2, sharex=True, sharey=True)
    figure.suptitle(title, fontsize=9)
    for axes, score, what in zip(panels, ("train_rmse", "valid_rmse"), ("training", "validation"), strict=True):
        axes.set(title=what, xlabel="thousand examples")
        axes.grid(color="0.9")
        for precision, seed in dict.fromkeys((row["precision"], row["seed"]) for row in rows):
            line = [row for row in rows if (row["precision"], row["seed"]) == (precision, seed)]
            points = [row["examples"] / 1000 for row in line], [row[score] for row in line]
            axes.plot(*points, color=_COLOURS[precision], lw=1, label=f"{precision}, seed {seed}")
    panels[0].set_ylabel("RMSE")
    panels[1].legend(fontsize=8)
    figure.savefig(path, dpi=110)


def _trained(options: argparse.Namespace, precision: str, seed: int) -> Run:
    device = device_of(options.device, precision)
    every = max(1, options.examples // VALIDATIONS)
    settings = {"examples": options.examples, "validate_every": every, "seed": seed}
    overrides = [*options.set, *(f"train.{name}={value}" for name, value in settings.items())]
    config = in_precision(load_config(options.config, overrides), device, precision)
    out = options.out / f"{precision}-seed{seed}"
    train(config, options.data, out, device=device, threads=options.threads, resume=True)
    return load(out, device)


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = new_parser("benchmarks.studies.precision_curves", __doc__)
    parser.add_argument("--device", choices=DEVICES, default="cuda", help="default: %(default)s")
    parser.add_argument("--config", default="laptop", help="preset or TOML file (default: %(default)s)")
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE", help="as in gzkern train")
    parser.add_argument("--data", required=True, help="a pack, or a folder in the Kaggle layout")
    parser.add_argument("--out", required=True, type=Path, help="folder of the runs")
    parser.add_argument("--examples", type=positive, default=200_000, help="of a run (default: %(default)s)")
    parser.add_argument("--seeds", type=_seeds, default=[0], help="with commas (default: 0)")
    names = chosen("precision", PRECISIONS)
    parser.add_argument("--precision", type=names, help=f"of {', '.join(PRECISIONS)} (default: those of the device)")
    parser.add_argument("--threads", type=int, help="that compute, on the CPU (default: one a core)")
    parser.add_argument("--json", metavar="FILE", type=file, help="write the curves")
    parser.add_argument("--png", metavar="FILE", type=picture, help="draw them")
    options = parser.parse_args(arguments)
    options.precision = options.precision or precisions_of(options.device)
    return options


def _seeds(text: str) -> list[int]:
    if not all(seed.isdecimal() for seed in text.split(",")):
        raise argparse.ArgumentTypeError(f"{text!r}: expected whole numbers, with commas")
    return [int(seed) for seed in text.split(",")]


if __name__ == "__main__":
    call(main)
