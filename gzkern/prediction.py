"""Predictions: of rows of a data set, of images in memory, and of files, which become a table."""

from __future__ import annotations

import csv
import io
import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, TypeVar

import numpy as np
from tqdm import tqdm

from .augment.geometry import crop_matrices, reach
from .augment.parameters import identity
from .augment.pool import Images, identity_crops
from .augment.tables import identity_tables
from .augment.warp import warp
from .config import DataConfig
from .data.ahead import work_ahead
from .data.catalogue import read_catalogue
from .data.dataset import open_dataset
from .data.images import decode
from .data.pack import is_pack
from .data.recentring import recentring_of, recentring_of_image
from .device import MOST_WORKERS, Device
from .errors import ImageError, InputError
from .files import write_atomically
from .models.network import Network
from .processes import cores
from .run import BATCH, Run

_Item = TypeVar("_Item")
_Write = Callable[[BinaryIO, Sequence[str], Sequence[str], np.ndarray], Any]


def predict_rows(
    network: Network,
    data: DataConfig,
    images: Images,
    rows: np.ndarray,
    *,
    batch: int = BATCH,
    on_device: Any = None,
    recentring: np.ndarray | None = None,
) -> np.ndarray:
    """Answer probabilities (len(rows), A) float32 of rows of ``images`` (n, H, W, 3) uint8, unperturbed.

    ``on_device``: the same images, where they lie on the network's device already. ``recentring``: (n, 3) float64 of
    all images, see ``augment.geometry.crop_matrices``.
    """
    answers = np.empty((len(rows), len(network.tree)), np.float32)
    for start in range(0, len(rows), batch):
        part = slice(start, start + batch)
        if network.device.backend is None:
            answers[part] = network.predict(identity_crops(images, rows[part], data, recentring))
        else:
            matrices, _ = identity_tables(rows[part], data, images.shape[1:3], recentring)
            if on_device is None:
                answers[part] = network.predict_images(images[rows[part]], matrices)
            else:
                answers[part] = network.predict_rows(on_device, rows[part], matrices)
    return answers


def predict_images(
    network: Network, data: DataConfig, images: np.ndarray | Iterable[np.ndarray], *, batch: int = BATCH
) -> np.ndarray:
    """Answer probabilities (n, A) float32 of whole images (H, W, 3) uint8, of any sizes.

    Raises:
        InputError: an image has another shape or dtype, or is smaller than the crop.
    """
    if batch < 1:
        raise InputError(f"batch {batch}: expected at least 1 image")
    prepare = _preparation(network, data)
    prepared = (prepare(_checked(number, image, data)) for number, image in enumerate(images))
    answers = [_answers(network, data, part) for part in _batches(prepared, batch)]
    return np.concatenate([np.empty((0, len(network.tree)), np.float32), *answers])


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
    batch: int = BATCH,
    workers: int | None = None,
    overwrite: bool = False,
    progress: bool = True,
) -> PredictionSummary:
    """Predict the answers for image files, or a pack, and write them as a table, whole or not at all.

    Args:
        run: a trained run.
        sources: folders, files, globs, or catalogues, as data.catalogue reads them; or one pack.
        out: FILE.csv or FILE.parquet.
        batch: images a network pass.
        workers: threads that decode; None takes one a core.
        overwrite: replace ``out``.
        progress: show a bar on stderr.

    Raises:
        InputError: no image can be used, or ``out`` cannot be written, exists, or has another suffix.
    """
    out = Path(out)
    write = _writer(out, overwrite)
    if batch < 1:
        raise InputError(f"--batch {batch}: expected at least 1 image")
    if workers is not None and not 1 <= workers <= MOST_WORKERS:
        raise InputError(f"--workers {workers}: expected 1 to {MOST_WORKERS} threads")
    packs = [source for source in sources if is_pack(source)]
    if packs and len(sources) > 1:
        raise InputError(f"{packs[0]}: is a pack; give it alone, and other images in a call of their own")
    skipped: list[tuple[Path, str, str]] = []
    if packs:
        ids, table = _answer_pack(run, packs[0], batch, progress)
    else:
        ids, table, skipped = _answer_files(run, sources, batch, workers or cores(), progress)
    write_atomically(out, lambda file: write(file, ids, run.network.tree.columns, table))
    return PredictionSummary(len(ids), tuple(skipped))


def _answer_pack(run: Run, path: str | Path, batch: int, progress: bool) -> tuple[Sequence[str], np.ndarray]:
    """Ids, and answers (n, A), of all images of a pack."""
    network, data = run.network, run.config.data
    dataset = open_dataset(path, network.tree, smallest=data.crop, reach=reach(data), progress=progress)
    recentring = recentring_of(dataset, data, progress=progress)
    answers = []
    with tqdm(total=len(dataset), unit="image", disable=not progress) as bar:
        for rows in _batches(range(len(dataset)), batch):
            part = predict_rows(network, data, dataset.images, np.array(rows), batch=batch, recentring=recentring)
            answers.append(part)
            bar.update(len(rows))
    return dataset.ids, np.concatenate(answers)


def _answer_files(
    run: Run, sources: Sequence[str | Path], batch: int, workers: int, progress: bool
) -> tuple[Sequence[str], np.ndarray, list[tuple[Path, str, str]]]:
    """Ids and answers (n, A) of all files that can be used, and (path, id, reason) of the others."""
    catalogue = read_catalogue(sources)
    network = run.network
    ids: list[str] = []
    skipped: list[tuple[Path, str, str]] = []
    answers: list[np.ndarray] = []
    files = zip(catalogue.paths, catalogue.ids, strict=True)
    prepare = _preparation(network, run.config.data)
    decoded = _decode_ahead(files, run.config.data.crop, prepare, workers)
    with tqdm(total=len(catalogue.paths), unit="image", disable=not progress) as bar:
        for part in _batches(decoded, batch):
            good = [(id_, image) for _, id_, image in part if not isinstance(image, str)]
            skipped += [(path, id_, reason) for path, id_, reason in part if isinstance(reason, str)]
            if good:
                answers.append(_answers(network, run.config.data, [image for _, image in good]))
                ids += [id_ for id_, _ in good]
            bar.update(len(part))
    if not ids:
        path, _, reason = skipped[0]
        raise InputError(f"none of {len(skipped)} files can be used; the first is {path}: {reason}")
    return ids, np.concatenate(answers), skipped


class _Prepared(NamedTuple):
    """An image by itself, ready for the network: ``pixels`` (H, W, 3) uint8, and ``matrices`` (2, 2, 3) of its crops.

    On the CPU ``pixels`` are the crops (2, T, T, 3) float32 themselves.
    """

    pixels: np.ndarray
    matrices: np.ndarray


def _preparation(network: Network, data: DataConfig) -> Callable[[np.ndarray], _Prepared]:
    """What is done with each image by itself: its crops are made on the CPU, or what they see goes to the device."""
    return partial(_crops if network.device.backend is None else _seen, data=data)


def _answers(network: Network, data: DataConfig, prepared: Sequence[_Prepared]) -> np.ndarray:
    """Answers (n, A) from what :func:`_preparation` made of n images."""
    if network.device.backend is None:
        return network.predict(np.stack([one.pixels for one in prepared]))
    shapes = list(dict.fromkeys(one.pixels.shape for one in prepared))
    if len(shapes) == 1:
        images, matrices = (np.stack(arrays) for arrays in zip(*prepared, strict=True))
        return network.predict_images(images, matrices)
    crops = np.empty((len(prepared), 2, data.target, data.target, 3), np.float32)
    for shape in shapes:
        rows = [row for row, one in enumerate(prepared) if one.pixels.shape == shape]
        images, matrices = (np.stack(arrays) for arrays in zip(*(prepared[row] for row in rows), strict=True))
        crops[rows] = _device_crops(network.device, images, matrices, data.target)
    return network.predict(crops)


def _device_crops(device: Device, images: np.ndarray, matrices: np.ndarray, target: int) -> np.ndarray:
    """Crops of images of one size (n, H, W, 3), by the device."""
    tables = np.arange(len(images)), matrices, np.zeros((len(images), 3), np.float32)
    step = device.asarray(np.zeros(1, np.int64))
    placed = (device.asarray(table[None]) for table in tables)
    return device.asnumpy(device.warp.crops(device.asarray(images), *placed, step, target))


def _decode_ahead(
    files: Iterable[tuple[Path, str]], smallest: int, prepare: Callable[[np.ndarray], _Prepared], workers: int
) -> Iterator[tuple[Path, str, _Prepared | str]]:
    """(path, id, image as ``prepare`` returns it or the reason why not), in order, a few images ahead."""

    def image_of(path: Path) -> _Prepared | str:
        try:
            return prepare(decode(path, smallest=smallest))
        except ImageError as error:
            return str(error)

    def prepared(file: tuple[Path, str]) -> tuple[Path, str, _Prepared | str]:
        return *file, image_of(file[0])

    return work_ahead(prepared, files, workers=workers, most=4 * workers)


def _checked(number: int, image: np.ndarray, data: DataConfig) -> np.ndarray:
    image = np.asarray(image)
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise InputError(f"image {number} is {image.dtype} {image.shape}, expected uint8 (H, W, 3)")
    height, width = image.shape[:2]
    if min(height, width) < data.crop:
        raise InputError(f"image {number} has {width}×{height} pixels, fewer than the {data.crop}-pixel crop")
    return image


def _seen(image: np.ndarray, data: DataConfig) -> _Prepared:
    """What the crops see of an image, so that most are of one size; it has the centre of the whole."""
    most = 2 * reach(data) + 2
    edges = [math.floor(max(extent - most, 0) / 2) for extent in image.shape[:2]]
    rows, columns = (slice(edge, extent - edge) for edge, extent in zip(edges, image.shape[:2], strict=True))
    seen = np.ascontiguousarray(image[rows, columns])
    return _Prepared(seen, _matrices(seen, data))


def _crops(image: np.ndarray, data: DataConfig) -> _Prepared:
    matrices = _matrices(image, data)
    return _Prepared(warp([image], matrices[None], data.target)[0], matrices)


def _matrices(image: np.ndarray, data: DataConfig) -> np.ndarray:
    """Where the crops of an image lie, (2, 2, 3) float64; a recentred one must be whole."""
    size = image.shape[:2]
    return crop_matrices(identity(1), size, data.target, data.scale, recentring_of_image(image, data))[0]


def _batches(items: Iterable[_Item], size: int) -> Iterator[list[_Item]]:
    iterator = iter(items)
    while part := list(islice(iterator, size)):
        yield part


def _writer(out: Path, overwrite: bool) -> _Write:
    """The function that writes ``out``, once everything that could prevent it has been looked at."""
    if out.exists() and not overwrite:
        raise InputError(f"{out}: already exists; choose another name or pass --overwrite")
    if not os.access(out.parent, os.W_OK):
        raise InputError(f"{out}: cannot be written; {out.parent} is not a folder one can write to")
    if out.suffix.lower() == ".csv":
        return _write_csv
    if out.suffix.lower() == ".parquet":
        return _parquet_writer()
    raise InputError(f"{out}: expected a name that ends in .csv or .parquet")


def _write_csv(file: BinaryIO, ids: Sequence[str], columns: Sequence[str], table: np.ndarray) -> None:
    # A file name need not be valid Unicode. Nine digits give back the float32.
    text = io.TextIOWrapper(file, encoding="utf-8", errors="backslashreplace", newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["GalaxyID", *columns])
    for id_, row in zip(ids, table, strict=True):
        writer.writerow([id_, *(f"{value:.9g}" for value in row)])
    text.detach()  # flushes, and leaves the file open to its owner


def _parquet_writer() -> _Write:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise InputError('writing Parquet needs pyarrow: pip install "gzkern[catalog]"') from None

    def write(file: BinaryIO, ids: Sequence[str], columns: Sequence[str], table: np.ndarray) -> None:
        named = {"GalaxyID": list(ids), **{name: table[:, i] for i, name in enumerate(columns)}}
        pyarrow.parquet.write_table(pyarrow.table(named), file)

    return write
