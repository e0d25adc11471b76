"""Predictions: of rows of a data set, of images in memory, and of files, which become a table."""

from __future__ import annotations

import csv
import io
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import numpy as np
from tqdm import tqdm

from .augment.geometry import crop_matrices
from .augment.parameters import identity
from .augment.pool import identity_crops
from .augment.warp import warp
from .config import DataConfig
from .data.catalogue import read_catalogue
from .data.images import decode
from .errors import ImageError, InputError
from .files import write_atomically
from .models.network import Network
from .run import Run

_Item = TypeVar("_Item")


def predict_rows(
    network: Network, data: DataConfig, images: np.ndarray, rows: np.ndarray, *, batch: int = 64
) -> np.ndarray:
    """Answer probabilities (len(rows), A) float32 of rows of ``images`` (n, H, W, 3) uint8, unperturbed."""
    answers = np.empty((len(rows), len(network.tree)), np.float32)
    for start in range(0, len(rows), batch):
        part = slice(start, start + batch)
        answers[part] = network.predict(identity_crops(images, rows[part], data))
    return answers


def predict_images(
    network: Network, data: DataConfig, images: np.ndarray | Iterable[np.ndarray], *, batch: int = 64
) -> np.ndarray:
    """Answer probabilities (n, A) float32 of whole images (H, W, 3) uint8, of any sizes.

    Raises:
        InputError: an image has another shape or dtype, or is smaller than the crop.
    """
    answers = [np.empty((0, len(network.tree)), np.float32)]
    for first, part in enumerate(_batches(images, batch)):
        for number, image in enumerate(part, start=first * batch):
            _check_image(number, image, data.crop)
        answers.append(network.predict(_crops(part, data)))
    return np.concatenate(answers)


@dataclass(frozen=True)
class PredictionSummary:
    """How many images got a row, and the (path, id, reason) of each file that did not."""

    predicted: int
    skipped: tuple[tuple[Path, str, str], ...]


def predict_files(
    run: Run,
    sources: Sequence[str | Path],
    out: str | Path,
    *,
    batch: int = 64,
    workers: int | None = None,
    overwrite: bool = False,
    progress: bool = True,
) -> PredictionSummary:
    """Predict the answers for image files and write them as a table, whole or not at all.

    Args:
        run: a trained run.
        sources: folders, files, globs, or catalogues, as data.catalogue reads them.
        out: FILE.csv or FILE.parquet.
        batch: images a network pass.
        workers: decoding threads; None takes one a core.
        overwrite: replace ``out``.
        progress: show a bar on stderr.

    Raises:
        InputError: no image can be used, or ``out`` exists or has another suffix.
    """
    out = Path(out)
    write = _writer(out)
    if out.exists() and not overwrite:
        raise InputError(f"{out}: already exists; choose another name or pass --overwrite")
    if batch < 1 or (workers is not None and workers < 1):
        raise InputError(f"expected --batch and --workers of at least 1, got {batch} and {workers}")
    catalogue = read_catalogue(sources)
    network, data = run.network, run.config.data
    ids: list[str] = []
    skipped: list[tuple[Path, str, str]] = []
    answers = [np.empty((0, len(network.tree)), np.float32)]

    def good(decoded: Iterable[tuple[Path, str, np.ndarray | str]]) -> Iterator[tuple[str, np.ndarray]]:
        for path, id_, image in decoded:
            if isinstance(image, str):
                skipped.append((path, id_, image))
            else:
                yield id_, image

    decoded = _decode_all(catalogue.paths, catalogue.ids, data.crop, workers or os.cpu_count() or 1)
    with tqdm(total=len(catalogue.paths), unit="image", disable=not progress) as bar:
        for part in _batches(good(decoded), batch):
            answers.append(network.predict(_crops([image for _, image in part], data)))
            ids += [id_ for id_, _ in part]
            bar.update(len(ids) + len(skipped) - bar.n)
        bar.update(len(ids) + len(skipped) - bar.n)
    if not ids:
        path, _, reason = skipped[0]
        raise InputError(f"none of {len(skipped)} files can be used; the first is {path}: {reason}")
    table = np.concatenate(answers)
    write_atomically(out, lambda file: write(file, ids, network.tree.columns, table))
    return PredictionSummary(len(ids), tuple(skipped))


def _decode_all(
    paths: Sequence[Path], ids: Sequence[str], smallest: int, workers: int
) -> Iterator[tuple[Path, str, np.ndarray | str]]:
    """(path, id, image or the reason why not), in order; few images are held at a time."""

    def decode_one(path: Path) -> np.ndarray | str:
        try:
            return decode(path, smallest=smallest)
        except ImageError as error:
            return str(error)

    with ThreadPoolExecutor(workers) as executor:
        entries = iter(zip(paths, ids, strict=True))
        pending = deque((p, i, executor.submit(decode_one, p)) for p, i in islice(entries, 4 * workers))
        while pending:
            path, id_, future = pending.popleft()
            image = future.result()
            pending.extend((p, i, executor.submit(decode_one, p)) for p, i in islice(entries, 1))
            yield path, id_, image


def _crops(images: Sequence[np.ndarray], data: DataConfig) -> np.ndarray:
    matrices = [crop_matrices(identity(1), image.shape[:2], data.target, data.scale)[0] for image in images]
    return warp(images, np.stack(matrices), data.target)


def _batches(items: Iterable[_Item], size: int) -> Iterator[list[_Item]]:
    iterator = iter(items)
    while part := list(islice(iterator, size)):
        yield part


def _check_image(number: int, image: np.ndarray, smallest: int) -> None:
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise InputError(f"image {number} is {image.dtype} {image.shape}, expected uint8 (H, W, 3)")
    if min(image.shape[:2]) < smallest:
        raise InputError(
            f"image {number} has {image.shape[1]}×{image.shape[0]} pixels, fewer than the {smallest}-pixel crop"
        )


def _writer(out: Path) -> Callable[[BinaryIO, Sequence[str], Sequence[str], np.ndarray], Any]:
    writers = {".csv": _write_csv, ".parquet": _write_parquet}
    if out.suffix.lower() not in writers:
        raise InputError(f"{out}: expected a name that ends in {' or '.join(writers)}")
    return writers[out.suffix.lower()]


def _write_csv(file: BinaryIO, ids: Sequence[str], columns: Sequence[str], table: np.ndarray) -> None:
    text = io.TextIOWrapper(file, encoding="utf-8", newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["GalaxyID", *columns])
    for id_, row in zip(ids, table, strict=True):
        writer.writerow([id_, *(f"{value:.6f}" for value in row)])
    text.detach()  # flushes, and leaves the file open to its owner


def _write_parquet(file: BinaryIO, ids: Sequence[str], columns: Sequence[str], table: np.ndarray) -> None:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise InputError('writing Parquet needs pyarrow: pip install "gzkern[catalog]"') from None
    named = {"GalaxyID": list(ids), **{name: table[:, i] for i, name in enumerate(columns)}}
    pyarrow.parquet.write_table(pyarrow.table(named), file)
