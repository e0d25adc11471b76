"""A run directory: what lies in it, and the trained network it holds.

``config.toml`` (complete), ``environment.json`` (machine, versions, data), ``metrics.jsonl`` (a line an interval),
``checkpoints/`` (weights and velocity, the last few) and ``weights.safetensors`` (the result).
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from threading import RLock
from typing import Any

import numpy as np

from ..config import Config, load_config
from ..device import Device, select
from ..errors import InputError
from ..models.network import Network, empty_network
from ..models.predictor import BATCH, Predictor
from ..prediction.arrays import predict_images
from . import checkpoint


class Run:
    """One training run on disk.

    Args:
        path: the directory; it need not exist yet.
        device: where its network computes; None asks ``GZKERN_DEVICE``.
        precision: of its products, "bf16" too; None is that of the training, but "fp32" on the CPU.

    >>> import gzkern
    >>> run = gzkern.Run("demo/run")
    >>> run.config.data.target, sorted(run.metrics[-1])[:3]
    (69, ['examples', 'images_per_s', 'loss'])
    """

    def __init__(self, path: str | Path, device: str | Device | None = None, precision: str | None = None):
        self.path = Path(path)
        self._device, self._precision = device, precision
        self._lock = RLock()  # several threads may ask for the network at once
        self._network: Network | None = None
        self._predictor: Predictor | None = None
        self.config_file = self.path / "config.toml"
        self.environment_file = self.path / "environment.json"
        self.metrics_file = self.path / "metrics.jsonl"
        self.checkpoint_folder = self.path / "checkpoints"
        self.weights_file = self.path / "weights.safetensors"

    def __repr__(self) -> str:
        """The path, how far the training is, and the last validation; reads two small files and no weights."""
        metrics = self.metrics
        if not metrics:
            state = "not trained yet" if self.config_file.is_file() else "no run there"
        else:
            validated = [line["valid_rmse"] for line in metrics if line.get("valid_rmse") is not None]
            state = (
                f"{'trained' if self.weights_file.is_file() else 'in training'}, {metrics[-1]['examples']:,} examples"
            )
            state += f", validation RMSE {validated[-1]:.4f}" if validated else ""
        return f"<Run {str(self.path)!r}: {state}>"

    @cached_property
    def config(self) -> Config:
        """The run's configuration."""
        return load_config(self.config_file)

    @property
    def environment(self) -> dict[str, Any]:
        """The contents of ``environment.json``; empty if it is absent."""
        try:
            return json.loads(self.environment_file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}

    @property
    def metrics(self) -> list[dict[str, Any]]:
        """The lines of ``metrics.jsonl``, oldest first; a last one that a crash cut short is left out."""
        lines = []
        if self.metrics_file.is_file():
            for text in self.metrics_file.read_text(encoding="utf-8").splitlines():
                try:
                    lines.append(json.loads(text))
                except ValueError:
                    break
        return lines

    @property
    def network(self) -> Network:
        """The trained network: final weights, or those of the last checkpoint of a run that goes on.

        Raises:
            InputError: the run has neither.
        """
        with self._lock:
            if self._network is None:
                self._network = self._load_network()
            return self._network

    @property
    def predictor(self) -> Predictor:
        """The answers of the trained network, safe from several threads."""
        with self._lock:
            if self._predictor is None:
                self._predictor = Predictor(self.network)
            return self._predictor

    def predict(self, images: np.ndarray | Iterable[np.ndarray], *, batch: int = BATCH) -> np.ndarray:
        """Answer probabilities (n, A) float32 of whole images.

        Args:
            images: (n, H, W, 3) uint8, or an iterable of (H, W, 3) uint8 images of any sizes.
            batch: images a network pass.

        Raises:
            InputError: an image is smaller than the crop, or not (H, W, 3) uint8.

        >>> from gzkern.data.pack import open_pack
        >>> run = load("demo/run")
        >>> answers = run.predict(open_pack("demo/pack").images[:3])
        >>> float(abs(answers[:, :3].sum(axis=1) - 1).max()) < 1e-5  # every volunteer answers the first question
        True
        """
        return predict_images(self.predictor, self.config.data, images, batch=batch)

    def _load_network(self) -> Network:
        checkpoints = checkpoint.list_checkpoints(self.checkpoint_folder)
        if self.weights_file.is_file():
            weights = checkpoint.load_weights(self.weights_file)
        elif checkpoints:
            _, weights, _ = checkpoint.load(checkpoints[-1])
        else:
            raise InputError(f"{self.path}: neither weights.safetensors nor a checkpoint; has it been trained?")
        network = empty_network(self.config, self._device, self._precision or _precision(self.config, self._device))
        network.load_state(weights)
        return network


def _precision(config: Config, device: str | Device | None) -> str:
    trained = config.train.precision
    return trained if trained in select(device).precisions else "fp32"


def load(path: str | Path, device: str | Device | None = None, precision: str | None = None) -> Run:
    """Open a run directory; arguments as :class:`Run` takes them.

    Raises:
        InputError: there is no run at ``path``.

    >>> import gzkern
    >>> gzkern.load("demo/run")
    <Run 'demo/run': trained, ... examples, validation RMSE 0...>
    """
    run = Run(path, device, precision)
    if not run.config_file.is_file():
        raise InputError(f"{path}: not a run (no config.toml in it); give a directory that gzkern train wrote")
    return run
