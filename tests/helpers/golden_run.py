"""A short training of a reduced network, the same everywhere: what it must leave in every parameter.

Same topology as the published network, few filters, dropout on, a clipped warm-up, fan-in initialisation (with the
published one the losses of so few steps see little but the last bias). After some of the steps it records the L2 norm
of every parameter array and its dot product with a fixed random vector, beside the losses.

python tests/helpers/golden_run.py --update     records it anew, from float64, into golden/golden_run.json
"""

from __future__ import annotations

import json
import sys
import zlib
from pathlib import Path

import numpy as np

from gzkern.config import load_config
from gzkern.cpu import constraints
from gzkern.models.network import Network, build_network
from gzkern.nn.optimiser import Nesterov

FILE = Path(__file__).parents[1] / "golden" / "golden_run.json"
STEPS, RECORDED, WARMUP = 20, (1, 5, 20), 4
BATCH, LR, MOMENTUM, DROPOUT = 3, 0.005, 0.9, 0.5
# A seed whose run no tie of a pool and no question close to its end makes sensitive: weights perturbed by 3e-7 change
# what is recorded by at most 4e-6, a gradient left out by at least 1e-3.
CONFIG = ("model.filters=[4, 6, 8, 10]", "model.units=[14, 12]", "train.init=fan_in", "train.seed=8")


def run(device, dtype=np.float32, *, zeroed: str | None = None) -> dict:
    """Train and record; ``zeroed`` names a parameter whose gradient is replaced by 0, which must be noticed."""
    network = build_network(load_config("paper", CONFIG), device)
    if dtype != np.float32:
        network.parameters.update({name: array.astype(dtype) for name, array in network.parameters.items()})
    optimiser = Nesterov(network.device, network.parameters, MOMENTUM)
    optimiser.set_rate(LR)
    record: dict = {"losses": [], "parameters": {}}
    for step in range(STEPS):
        if step == WARMUP:
            optimiser.reset()
        crops, targets = batch(step, network)
        loss, gradients = network.runtime_gradients(
            crops, targets, constrained=step >= WARMUP, drop=DROPOUT, seed_and_step=(5, step)
        )
        if zeroed:
            gradients[zeroed] = network.device.asarray(np.zeros(network.parameters[zeroed].shape, dtype))
        optimiser.watch(loss)
        optimiser.finish(loss, gradients)
        record["losses"].append(float(network.device.asnumpy(loss)))
        if step + 1 in RECORDED:
            record["parameters"][str(step + 1)] = {name: summary(name, a) for name, a in network.state().items()}
    return record


def batch(step: int, network: Network) -> tuple[np.ndarray, np.ndarray]:
    """Blurred noise as crops, and answers that obey the tree."""
    rng = np.random.default_rng((9, step))
    crops = rng.random((BATCH, 2, network.target, network.target, 3), np.float32)
    crops = (crops + np.roll(crops, 1, axis=2) + np.roll(crops, 1, axis=3)) / np.float32(3)
    votes = rng.random((BATCH, len(network.tree)), np.float32)
    answers, _ = constraints.forward(votes.T, network.tree)
    return crops, answers.T


def summary(name: str, array: np.ndarray) -> list[float]:
    """[L2 norm, dot product with a random unit vector], in float64."""
    values = array.astype(np.float64).ravel()
    direction = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(values.size)
    return [float(np.linalg.norm(values)), float(values @ direction / np.linalg.norm(direction))]


def largest_difference(got: dict, expected: dict) -> tuple[float, str]:
    """The largest relative difference and what it is of: losses, norms, and dot products relative to the norms."""
    differences = [
        (abs(a - b) / abs(b), f"loss of step {step}")
        for step, (a, b) in enumerate(zip(got["losses"], expected["losses"], strict=True))
    ]
    for step, arrays in expected["parameters"].items():
        assert got["parameters"][step].keys() == arrays.keys()
        for name, (norm, dot) in arrays.items():
            got_norm, got_dot = got["parameters"][step][name]
            differences.append((abs(got_norm - norm) / norm, f"norm of {name} after step {step}"))
            differences.append((abs(got_dot - dot) / norm, f"direction of {name} after step {step}"))
    return max(differences, key=lambda pair: np.inf if np.isnan(pair[0]) else pair[0])


def expected() -> dict:
    return json.loads(FILE.read_text())


if __name__ == "__main__":
    if sys.argv[1:] != ["--update"]:
        sys.exit(__doc__)
    FILE.write_text(json.dumps(run("cpu", np.float64), indent=1) + "\n")
    print(f"wrote {FILE}")
