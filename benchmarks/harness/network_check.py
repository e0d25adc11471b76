"""Answers of a network in float64, and its gradients against PyTorch's: a pass that is timed must be right."""

from __future__ import annotations

import dataclasses
import importlib.util
from functools import cache

import numpy as np

from gzkern.config import Config
from gzkern.models.network import build_network

from .engines import example_batch

GRADIENTS = {"fp32": 1e-2, "fp32x3": 1e-2, "tf32": 1e-1}
"""Allowed of a gradient's norm: where two positions of a pool nearly tie, rounding decides who gets it."""

_CHECKED = 4  # images


@cache
def exact_answers(config: Config) -> np.ndarray:
    """Return the answers (4, A) to the first crops of any example batch, by the oracles in float64."""
    network = build_network(_with_batch(config, _CHECKED), "cpu")
    network.parameters.update({name: array.astype(np.float64) for name, array in network.parameters.items()})
    return network.predict(example_batch(_with_batch(config, _CHECKED))[0])


@cache
def gradients_verdict(config: Config, device: str, precision: str) -> str | None:
    """Compare loss and gradients of one step, without dropout, with PyTorch's on the CPU; None without PyTorch.

    Raises:
        RuntimeError: too far; the numbers would be of different computations.
    """
    if importlib.util.find_spec("torch") is None:
        return None
    import torch

    from ..baselines.torch_network import TorchNetwork

    network = build_network(config, device)
    network.precision = precision
    crops, targets = example_batch(config)
    reference = TorchNetwork(network, 0.0)
    loss = ((reference(torch.from_numpy(crops)) - torch.from_numpy(targets)) ** 2).mean()
    loss.backward()
    our_loss, gradients = network.loss_and_gradients(crops, targets)
    worst = abs(our_loss - loss.item()) / loss.item()
    for name, expected in reference.gradients(network).items():
        worst = max(worst, float(np.linalg.norm(gradients[name] - expected) / np.linalg.norm(expected)))
    if not worst <= GRADIENTS[precision]:
        raise RuntimeError(f"a gradient in {precision} differs from PyTorch's by {worst:.1e} of its norm")
    return f"loss and gradients within {worst:.1e} of PyTorch's, relative to their norms"


def _with_batch(config: Config, batch: int) -> Config:
    return dataclasses.replace(config, train=dataclasses.replace(config.train, batch=batch))
