"""Opening a data set: a pack, or a folder in the Kaggle layout."""

from __future__ import annotations

import math
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..decision_trees.tree import DecisionTree
from ..errors import InputError
from .catalogue import list_images
from .dataset import Dataset
from .encoded import EncodedImages
from .labels import read_labels
from .loading import Candidate, Loader
from .pack import is_pack, open_pack

_IMAGE_FOLDER = "images_training_rev1"
_LABEL_FILE = "training_solutions_rev1.csv"
_MOST_MEMORY = 4 * 2**30  # bytes; images that take more stay in their files


def open_dataset(
    path: str | Path, tree: DecisionTree, *, smallest: int, reach: float, progress: bool = True
) -> Dataset:
    """Open a pack, or a folder in the Kaggle layout, whose images are decoded into memory where they fit.

    The labels of a pack without labels are None. All files of a folder are decoded once, to check them, in any case;
    those of a large one then anew as they are used.

    Args:
        path: a pack, or a folder that holds ``images_training_rev1`` and ``training_solutions_rev1.csv``.
        tree: the decision tree the labels answer.
        smallest: the least height and width of an image, in pixels.
        reach: how far from an image's centre, along either axis, it may be sampled, in its pixels; a pack of less is
            refused. ``math.inf``: anywhere, for recentred networks.
        progress: show a bar on stderr while files are read.

    Raises:
        InputError: there is no data set at ``path``, it is not sound, answers another tree, or a pack does not hold
            enough of each image.
    """
    path = Path(path)
    if is_pack(path):
        return _open_fitting_pack(path, tree, smallest, reach, progress)
    _require_kaggle_layout(path)
    images_folder, labels_csv = path / _IMAGE_FOLDER, path / _LABEL_FILE
    labels = read_labels(labels_csv, tree)
    loader = Loader(images_folder, labels, smallest=smallest, progress=progress)
    images: np.ndarray | EncodedImages
    if loader.most_bytes <= _MOST_MEMORY:
        used, images = _decoded(loader)
    else:
        if progress:
            print(
                f"gzkern: {path}: its images take {loader.most_bytes / 2**30:.1f} GiB decoded, too much to hold in "
                "memory; they are checked now and decoded whenever they are used, and a pack is faster: "
                f"gzkern pack {images_folder} --labels {labels_csv} --out PACK",
                file=sys.stderr,
            )
        used, images = _encoded(loader)
    return Dataset(
        ids=tuple(candidate.id for candidate in used),
        images=images,
        labels=labels.fractions[[candidate.row for candidate in used]],
        columns=tree.columns,
        whole_size=(loader.shape[0], loader.shape[1]),
        quarantined=tuple(loader.quarantined),
    )


def _decoded(loader: Loader) -> tuple[list[Candidate], np.ndarray]:
    images = np.empty((len(loader.candidates), *loader.shape), np.uint8)
    used: list[Candidate] = []
    for candidate, _, image, _ in loader.decode("decoding"):
        if image is not None:
            images[len(used)] = image
            used.append(candidate)
    return used, images[: len(used)]


def _encoded(loader: Loader) -> tuple[list[Candidate], EncodedImages]:
    used, stamps = [], []
    for candidate, stamp, image, _ in loader.decode("checking"):
        if image is not None and stamp is not None:
            used.append(candidate)
            stamps.append(stamp)
    return used, EncodedImages([candidate.path for candidate in used], stamps, loader.shape)


def _open_fitting_pack(path: Path, tree: DecisionTree, smallest: int, reach: float, progress: bool) -> Dataset:
    dataset = open_pack(path, progress=progress)
    if dataset.labels is not None and dataset.columns != tree.columns:
        raise InputError(
            f"{path}: the pack's labels are not those of decision tree {tree.name}; set data.tree to "
            "the tree it was packed with, or run gzkern pack again"
        )
    height, width = dataset.whole_size
    if min(height, width) < smallest:
        raise InputError(
            f"{path}: {width}×{height} pixels an image, smaller than the {smallest}-pixel crop; "
            "a network for such images is trained with a smaller data.scale and data.crop"
        )
    for whole, kept in zip(dataset.whole_size, dataset.images.shape[1:3], strict=True):
        if kept < whole and (kept - 1) / 2 < reach:
            raise _too_small(path, dataset, reach)
    return replace(dataset, quarantined=())  # said when the pack was made


def _too_small(path: Path, dataset: Dataset, reach: float) -> InputError:
    height, width = dataset.whole_size
    kept = dataset.images.shape[1]
    holds = f"{path}: holds the central {kept}×{kept} pixels of images of {width}×{height}"
    if math.isinf(reach):
        return InputError(f"{holds}, but recentring needs whole images; run gzkern pack again without --crop")
    needed = math.ceil(2 * reach + 1)
    needed += (height - needed) % 2
    mend = f"with --crop {needed} or more" if needed < min(height, width) else "without --crop"
    return InputError(
        f"{holds}, but this configuration samples up to {reach:.1f} pixels from the centre, {needed}×{needed} in all; "
        f"run gzkern pack again {mend}"
    )


def _require_kaggle_layout(path: Path) -> None:
    expected = f"expected a pack, or a folder with {_IMAGE_FOLDER}/ and {_LABEL_FILE}"
    if not path.exists():
        raise InputError(f"{path}: no such folder; {expected}")
    if not path.is_dir():
        raise InputError(f"{path}: is a file; {expected}")
    if not (path / _IMAGE_FOLDER).is_dir():
        loose = " (it holds images, but no label file)" if list_images(path) else ""
        raise InputError(f"{path}: no data set{loose}; {expected}")
    if not (path / _LABEL_FILE).is_file():
        raise InputError(f"{path}: no label file {_LABEL_FILE}; {expected}")
