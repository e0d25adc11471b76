"""The training step and prediction of the whole network, against PyTorch.

python -m benchmarks.train_step --device cpu --baseline torch --json benchmarks/results/train_step_cpu.json
python -m benchmarks.train_step --device cuda --baseline torch --json benchmarks/results/train_step_cuda.json
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import statistics
import sys
from functools import partial
from importlib.metadata import version
from typing import Any

import numpy as np

import gzkern
from benchmarks.engines import Build, Process, example_batch, gzkern_engine, torch_engine
from benchmarks.report import print_table, spread, write_json
from gzkern.config import Config, load_config
from gzkern.device import select
from gzkern.errors import InputError

PASSES = {"train_step": "step", "predict": "predict"}
BASELINES: dict[str, dict[str, Build]] = {
    "torch": {
        "torch": torch_engine,
        "torch channels-last": partial(torch_engine, channels_last=True),
        "torch channels-last bf16": partial(torch_engine, channels_last=True, bfloat16=True),
    }
}
PAPER_STEPS = 1_562_500
TOLERANCE = 1e-2  # of a gradient's norm: where two positions of a pool nearly tie, rounding decides who gets it


def main(arguments: list[str] | None = None) -> int:
    """Measure, print a table and write JSON."""
    options = _parse(arguments)
    config = load_config(options.config, [f"train.batch={options.batch}"])
    verified = verify(config, options.device) if "torch" in options.baseline else None
    rows = measure(config, options.device, options.baseline, options.threads, options.repeats)
    for row in rows:
        row["verified"] = verified
    print_table(
        rows,
        ["name", "engine", "precision", "ms", "ms_p20", "ms_p80", "images_per_s", "ratio", "baseline", "peak_mib"],
    )
    if options.json:
        write_json(options.json, rows, select(options.device).describe())
    return 0


def measure(config: Config, device: str, baselines: list[str], threads: int, repeats: int) -> list[dict[str, Any]]:
    """One row an engine and pass; engines take turns, one pass at a time."""
    builders = {"gzkern": gzkern_engine, **{name: b for base in baselines for name, b in BASELINES[base].items()}}
    seconds: dict[tuple[str, str], list[float]] = {}
    engines = {name: Process(build, config, device, threads) for name, build in builders.items()}
    try:
        for round_ in range(-2, repeats):  # two rounds to compile and warm up
            for name, engine in engines.items():
                for what in PASSES.values():
                    taken = engine.ask(what)
                    if round_ >= 0:
                        seconds.setdefault((name, what), []).append(taken)
        peaks = {name: engine.ask("peak_bytes") for name, engine in engines.items()}
    finally:
        for engine in engines.values():
            engine.close()
    published = config == load_config("paper")
    rows = []
    for pass_name, what in PASSES.items():
        medians = {name: statistics.median(seconds[name, what]) for name in builders}
        rivals = {name: m for name, m in medians.items() if name != "gzkern" and "bf16" not in name}
        best = min(rivals, key=lambda name: rivals[name]) if rivals else None
        for name in builders:
            hours = medians[name] * PAPER_STEPS / 3600
            rows.append(
                {
                    "name": pass_name,
                    "engine": name,
                    "device": device,
                    "precision": "bf16" if "bf16" in name else "fp32",
                    "batch": config.train.batch,
                    "threads": threads,
                    "repeats": repeats,
                    **spread(seconds[name, what]),
                    "images_per_s": round(config.train.batch / medians[name], 1),
                    "baseline": best if name == "gzkern" else None,
                    "ratio": round(medians[best] / medians[name], 3) if name == "gzkern" and best else None,
                    "paper_run_hours": round(hours, 1) if published and what == "step" else None,
                    "peak_mib": round(peaks[name] / 2**20),
                    "engine_version": version("torch") if name.startswith("torch") else gzkern.__version__,
                }
            )
    return rows


def verify(config: Config, device: str) -> str:
    """Loss and every gradient of one step against PyTorch's, without dropout, from a start with large gradients.

    Raises:
        RuntimeError: a gradient is off; the numbers would be of different computations.
    """
    import torch

    from benchmarks.torch_network import TorchNetwork
    from gzkern.models.network import build_network

    train = dataclasses.replace(config.train, init="fan_in")
    network = build_network(dataclasses.replace(config, train=train), device)
    crops, targets = example_batch(config)
    reference = TorchNetwork(network, 0.0)
    loss = ((reference(torch.from_numpy(crops)) - torch.from_numpy(targets)) ** 2).mean()
    loss.backward()
    our_loss, gradients = network.loss_and_gradients(crops, targets)
    worst = abs(our_loss - loss.item()) / loss.item()
    for name, expected in reference.gradients(network).items():
        worst = max(worst, float(np.linalg.norm(gradients[name] - expected) / np.linalg.norm(expected)))
    if not worst <= TOLERANCE:
        raise RuntimeError(f"a gradient differs from PyTorch's by {worst:.1e} of its norm")
    return f"loss and gradients within {worst:.1e} of PyTorch's, relative to their norms"


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.train_step", description=__doc__)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="default: %(default)s")
    parser.add_argument("--config", default="paper", help="preset or TOML file (default: %(default)s)")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--repeats", type=int, default=15, help="timed passes an engine (default: %(default)s)")
    parser.add_argument(
        "--baseline", type=lambda text: [b for b in text.split(",") if b], default=[], help="torch, or nothing"
    )
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args(arguments)
    unknown = set(options.baseline) - BASELINES.keys()
    if unknown:
        parser.error(f"unknown baseline {', '.join(sorted(unknown))}; expected {', '.join(BASELINES)}")
    return options


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (InputError, RuntimeError, ImportError) as error:
        print(f"benchmarks.train_step: {error}", file=sys.stderr)
        sys.exit(2)
