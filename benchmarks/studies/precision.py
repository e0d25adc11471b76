"""The errors of one training step in each precision: answers, loss, the gradient of every parameter, against float64.

python -m benchmarks.studies.precision --device cpu --json benchmarks/results/precision_cpu.json
python -m benchmarks.studies.precision --device emulated --batch 1 --json benchmarks/results/precision_emulated.json
python -m benchmarks.studies.precision --device cuda --config paper --json benchmarks/results/precision_cuda.json

The step is one with dropout and constrained answers, at a start with large gradients or, by --run, where a run has come
to. On the CPU, tf32 is a stand-in: see benchmarks/studies/rounding.py. A row is an array:

  norm                  of the error, relative to that of the array; of "decisions" the share that differs
  largest               error, relative to the largest value
  norm_same_decisions   where float64 goes back by the decisions of the precision, see benchmarks/studies/decisions.py
  norm_other_mask       for comparison: what another mask of dropout makes of the gradient
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

from gzkern.augment.geometry import reach
from gzkern.augment.pool import identity_crops
from gzkern.config import Config, load_config
from gzkern.data.opening import open_dataset
from gzkern.decision_trees.tree import load_tree
from gzkern.device import Device, select
from gzkern.errors import InputError
from gzkern.models.network import Network, build_network
from gzkern.runs.run import load

from ..harness.command import call, new_parser
from ..harness.engines import example_batch
from ..harness.options import DEVICES, chosen, file, positive
from ..harness.report import print_table, write_rows
from .decisions import differing, following, witnessed
from .rounding import CAVEAT, RoundingDevice

PRECISIONS = ("fp32", "tf32", "fp32x3")


def main(arguments: list[str] | None = None) -> int:
    """Measure, print a table and write JSON."""
    options = _parse(arguments)
    source = load(options.run).config_file if options.run else options.config
    config = load_config(source, [f"train.batch={options.batch}", "train.init=fan_in"])
    crops, targets = _batch(config, options.data)
    rows: list[dict[str, Any]] = []
    for precision in options.precision:
        device = device_of(options.device, precision)
        network = build_network(in_precision(config, device, precision), device)
        if options.run:
            network.load_state(load(options.run, "cpu").network.state())
        rows += [{"precision": precision, **row} for row in errors(network, config, crops, targets)]
        if options.json:
            facts = {name: getattr(options, name) for name in ("device", "config", "batch", "data", "run")}
            products = {"tf32": CAVEAT} if options.device == "cpu" else {}
            write_rows(options.json, rows, {**facts, **products, **select(options.device).describe()})
    print_table(rows, ["precision", "array", "norm", "largest", "norm_same_decisions", "norm_other_mask"])
    return 0


def device_of(name: str, precision: str) -> Device:
    """The device that computes in this precision; the CPU itself has fp32 alone."""
    return RoundingDevice() if (name, precision) == ("cpu", "tf32") else select(name)


def precisions_of(name: str) -> list[str]:
    """Those that can be had on a device."""
    return [precision for precision in PRECISIONS if name != "cpu" or precision in ("fp32", "tf32")]


def in_precision(config: Config, device: Device, precision: str) -> Config:
    """The configuration for that device."""
    settled = "fp32" if device.name == "cpu" else precision
    return dataclasses.replace(config, train=dataclasses.replace(config.train, precision=settled))


def errors(network: Network, config: Config, crops: np.ndarray, targets: np.ndarray) -> Iterator[dict[str, Any]]:
    """A row an array: the answers, the loss, each gradient; then one of the decisions that differ."""
    reference, step = in_float64(network, config), partial(_step, crops, targets, config.train.dropout)
    yield _row("answers", network.predict(crops), reference.predict(crops))
    device, decisions = witnessed(network.device)
    loss, gradients = step(network, device)
    cpu, exact_decisions = witnessed(reference.device)
    exact_loss, exact = step(reference, cpu)
    _, by_our_decisions = step(reference, following(decisions))
    _, by_other_mask = step(reference, select("cpu"), 1)
    yield _row("loss", np.array(loss), np.array(exact_loss))
    for name, gradient in gradients.items():
        yield {
            **_row(name, gradient, exact[name]),
            "norm_same_decisions": _norm(gradient, by_our_decisions[name]),
            "norm_other_mask": _norm(by_other_mask[name], exact[name]),
        }
    differ, total = differing(decisions, exact_decisions)
    yield {"array": "decisions", "norm": differ / total, "differ": differ, "of": total}


def in_float64(network: Network, config: Config) -> Network:
    """The network of the CPU's oracles, with the same parameters."""
    reference = build_network(in_precision(config, select("cpu"), "fp32"), "cpu")
    reference.load_state(network.state())
    reference.parameters.update({name: array.astype(np.float64) for name, array in reference.parameters.items()})
    return reference


def _step(
    crops: np.ndarray, targets: np.ndarray, drop: float, network: Network, device: Device, mask: int = 0
) -> tuple[float, dict[str, np.ndarray]]:
    """Loss and gradients of one step, by that device; ``mask`` numbers the masks of dropout."""
    network.device = device
    return network.loss_and_gradients(crops, targets, drop=drop, seed_and_step=(0, mask))


def _row(array: str, got: np.ndarray, exact: np.ndarray) -> dict[str, Any]:
    largest = float(np.abs(got - exact).max() / np.abs(exact).max())
    return {"array": array, "norm": _norm(got, exact), "largest": largest}


def _norm(got: np.ndarray, exact: np.ndarray) -> float:
    return float(np.linalg.norm(got - exact) / np.linalg.norm(exact))


def _batch(config: Config, data: str | None) -> tuple[np.ndarray, np.ndarray]:
    """Crops (B, 2, T, T, 3) float32 and answer fractions (B, A): the first of a data set, or noise."""
    if data is None:
        return example_batch(config)
    crop, most = config.data.crop, reach(config.data)
    dataset = open_dataset(data, load_tree(config.data.tree), smallest=crop, reach=most, progress=False)
    if dataset.labels is None or len(dataset) < config.train.batch:
        raise InputError(f"{data}: expected labels, and at least {config.train.batch} images")
    rows = np.arange(config.train.batch)
    return identity_crops(dataset.images, rows, config.data), dataset.labels[rows]


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = new_parser("benchmarks.studies.precision", __doc__)
    parser.add_argument("--device", choices=DEVICES, default="cpu", help="default: %(default)s")
    parser.add_argument("--config", default="laptop", help="preset or TOML file (default: %(default)s)")
    parser.add_argument("--batch", type=positive, default=16, help="images (default: %(default)s)")
    parser.add_argument("--run", help="whose weights and configuration to take")
    parser.add_argument("--data", help="images and labels, as gzkern train takes them; the first ones (default: noise)")
    names = chosen("precision", PRECISIONS)
    parser.add_argument("--precision", type=names, help=f"of {', '.join(PRECISIONS)} (default: those of the device)")
    parser.add_argument("--json", metavar="FILE", type=file, help="write the rows")
    options = parser.parse_args(arguments)
    options.precision = options.precision or precisions_of(options.device)
    return options


if __name__ == "__main__":
    call(main)
