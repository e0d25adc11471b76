"""Small data sets on the disk for the tests of ``gzkern.data``."""

from __future__ import annotations

import csv
import os
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from gzkern.data.pack import PackSummary, pack
from gzkern.decision_trees.tree import DecisionTree, load_tree

TREE = load_tree("galaxy_zoo_2")
SIDE = 48
"""Pixels along each side of the images made here."""


def real_sample() -> Path | None:
    """A folder of real galaxies in the Kaggle layout, where ``GZKERN_SAMPLE`` names one."""
    folder = os.environ.get("GZKERN_SAMPLE")
    return Path(folder) if folder and Path(folder, "images_training_rev1").is_dir() else None


def picture(seed: int, width: int = SIDE, height: int = SIDE) -> Image.Image:
    """An RGB image with some structure, so that its JPEG has a body."""
    coarse = np.random.default_rng(seed).integers(0, 256, (height // 4, width // 4, 3), np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def write_images(folder: Path, ids: list[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for seed, id_ in enumerate(ids):
        picture(seed).save(folder / f"{id_}.jpg", quality=90)


def write_labels(path: Path, ids: list[str], tree: DecisionTree = TREE) -> np.ndarray:
    """Write a label file; returns its fractions, (n, answers) float32."""
    fractions = np.random.default_rng(7).random((len(ids), len(tree)), np.float32)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["GalaxyID", *tree.columns])
        writer.writerows([id_, *map(float, row)] for id_, row in zip(ids, fractions, strict=True))
    return fractions


def kaggle_folder(root: Path, count: int = 12) -> Path:
    """A data set in the Kaggle layout: ids 101, 102, … and one label row for each image."""
    ids = [str(101 + i) for i in range(count)]
    write_images(root / "images_training_rev1", ids)
    write_labels(root / "training_solutions_rev1.csv", ids)
    return root


def pack_kaggle(root: Path, out: Path, **options: Any) -> PackSummary:
    """Pack the folder that ``kaggle_folder`` wrote, by ``options`` of ``pack``."""
    options = {"smallest": SIDE, "progress": False} | options
    return pack(root / "images_training_rev1", root / "training_solutions_rev1.csv", out, TREE, **options)


def file_names(folder: Path) -> list[str]:
    """Return the names in a folder, in order."""
    return sorted(path.name for path in folder.iterdir())


def assert_same_files(a: Path, b: Path) -> None:
    """Fail unless two folders hold the same files, byte for byte."""
    assert file_names(a) == file_names(b)
    for path in a.iterdir():
        assert path.read_bytes() == (b / path.name).read_bytes(), path.name
