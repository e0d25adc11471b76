"""Weights, and the checkpoints of a run, as safetensors files.

Arrays stand in the files' order (models.network) under their parameter names; a checkpoint also holds the velocity
of each as ``velocity.<name>``, and the number of steps done in its metadata.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ..core.files import write_atomically
from ..errors import InputError

_VELOCITY = "velocity."


def save_weights(path: Path, weights: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> None:
    """Write arrays in the files' order, whole or not at all."""
    from safetensors.numpy import save_file

    arrays = {name: np.ascontiguousarray(array) for name, array in weights.items()}
    write_atomically(path, lambda file: save_file(arrays, file.name, dict(metadata)))


def load_weights(path: Path) -> dict[str, np.ndarray]:
    """Read arrays by name.

    Raises:
        InputError: the file is absent, cut short, or not in the safetensors format.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise InputError(
            f"{path}: not a readable safetensors file ({error}); if it is damaged, remove it: the checkpoint before "
            "it is taken then"
        ) from None


def save(
    folder: Path, step: int, weights: Mapping[str, np.ndarray], velocity: Mapping[str, np.ndarray], kept: int
) -> Path:
    """Write ``<step, 9 digits>.safetensors`` into ``folder`` and remove all but the last ``kept``."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{step:09d}.safetensors"
    arrays = {**weights, **{_VELOCITY + name: array for name, array in velocity.items()}}
    save_weights(path, arrays, {"step": str(step)})
    for old in list_checkpoints(folder)[:-kept]:
        old.unlink()
    return path


def load(path: Path) -> tuple[int, dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Read a checkpoint: steps done, weights, velocity.

    Raises:
        InputError: as :func:`load_weights`, or the file is not a checkpoint.
    """
    arrays = load_weights(path)
    weights = {name: a for name, a in arrays.items() if not name.startswith(_VELOCITY)}
    velocity = {name.removeprefix(_VELOCITY): a for name, a in arrays.items() if name.startswith(_VELOCITY)}
    if weights.keys() != velocity.keys() or not path.stem.isdigit():
        raise InputError(f"{path}: not a checkpoint; expected <step>.safetensors with weights and velocities")
    return int(path.stem), weights, velocity


def list_checkpoints(folder: Path) -> list[Path]:
    """The checkpoints of a folder, oldest first."""
    return sorted(path for path in folder.glob("*.safetensors") if path.stem.isdigit())
