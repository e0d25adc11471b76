"""The run directory before training: its configuration settled, an old run removed or restored."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..config import Config, load_config
from ..core import environment
from ..core.files import LOCK, write_atomically
from ..decision_trees.tree import locate_tree
from ..errors import InputError
from ..models.network import Network
from ..nn.optimiser import Nesterov
from ..runs import checkpoint
from ..runs.run import Run


def settle_config(run: Run, config: Config | None, *, resume: bool, overwrite: bool) -> Config:
    """Return the configuration to train by, once ``run.path`` is known to be free for it.

    Args:
        run: to start or to resume.
        config: asked for; None with ``resume`` takes the run's own.
        resume: go on with the run.
        overwrite: replace the run.

    Raises:
        InputError: the directory cannot be used so, or the run has another configuration.
    """
    exists = run.config_file.is_file()
    if config is not None:  # the run must find its tree from any folder
        data = dataclasses.replace(config.data, tree=locate_tree(config.data.tree))
        config = dataclasses.replace(config, data=data)
    if resume and overwrite:
        raise InputError("--resume keeps the run and --overwrite replaces it; give one of the two")
    if resume and exists:
        stored = load_config(run.config_file)
        if config not in (None, stored):
            raise InputError(
                f"{run.config_file} differs from the configuration asked for; leave --config and --set out to go "
                "on as it began, or choose another --out"
            )
        return stored
    if config is None:
        raise InputError(f"{run.path}: no run to resume (no config.toml in it); give a configuration")
    if run.path.exists() and not run.path.is_dir():
        raise InputError(f"{run.path}: is a file; --out names a directory")
    if exists and not overwrite:
        raise InputError(f"{run.path} holds a run already; pass --resume to go on, --overwrite to replace it")
    if run.path.is_dir() and {entry.name for entry in run.path.iterdir()} - {LOCK} and not exists:
        raise InputError(f"{run.path}: is not empty and not a run; choose another --out")
    return config


def remove_run(run: Run) -> None:
    """Remove the files of a run, and nothing else that may lie in its directory."""
    for file in (run.metrics_file, run.weights_file, run.environment_file, run.config_file):
        file.unlink(missing_ok=True)
    shutil.rmtree(run.checkpoint_folder, ignore_errors=True)


def restore(run: Run, network: Network, optimiser: Nesterov, facts: dict[str, Any], say: Callable[[str], None]) -> int:
    """Load the last checkpoint into network and optimiser, and cut ``metrics.jsonl`` back to it.

    Args:
        run: to resume.
        network: takes the weights.
        optimiser: of its parameters; takes the velocities.
        facts: of this machine and this data, as ``environment.json`` will hold them.
        say: prints what differs from the run so far.

    Returns:
        The number of steps done; 0 without a checkpoint.

    Raises:
        InputError: the run was trained on other data, or the checkpoint is of another network.
    """
    before = run.environment
    if before and before.get("data_fingerprint") != facts["data_fingerprint"]:
        raise InputError(
            f"{run.path} was trained on other data ({before.get('data')}); resume with that, or choose another --out"
        )
    for key in environment.BIT_EXACT:
        if key in before and before[key] != facts[key]:
            say(f"{key} was {before[key]}, is {facts[key]}: the last bits may differ from one run")
    for leftover in run.checkpoint_folder.glob(".*.partial"):  # of a process that was killed
        leftover.unlink()
    found = checkpoint.list_checkpoints(run.checkpoint_folder)
    if not found:
        say(f"{run.path} has no checkpoint yet; starting from the beginning")
        _cut_metrics(run.metrics_file, 0)
        return 0
    step, weights, velocity = checkpoint.load(found[-1])
    network.load_state(weights)
    optimiser.load_state(network.runtime_order(velocity))
    _cut_metrics(run.metrics_file, step)
    return step


def _cut_metrics(path: Path, step: int) -> None:
    """Drop the lines after ``step``, and a last line that was cut short."""
    if not path.is_file():
        return
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            if json.loads(line)["step"] > step:
                break
        except (ValueError, KeyError):
            break
        lines.append(line + "\n")
    write_atomically(path, "".join(lines).encode())
