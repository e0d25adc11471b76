"""Predictions for image files or a pack, written as a table."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ..augment.geometry import reach
from ..config import DataConfig
from ..core.files import write_atomically
from ..core.ordered_workers import prefetch
from ..core.processes import cores
from ..data.catalogue import read_catalogue
from ..data.images import decode
from ..data.opening import open_dataset
from ..data.pack import is_pack
from ..data.recentring import recentring_of
from ..device import MOST_WORKERS
from ..errors import ImageError, InputError
from ..models.predictor import BATCH, Predictor
from .arrays import Prepared, answers_of, batches, predict_rows, preparation
from .tables import writer


@dataclass(frozen=True)
class PredictionSummary:
    """The number of images that got a row, and the (path, id, reason) of each file that did not."""

    predicted: int
    skipped: tuple[tuple[Path, str, str], ...]


def predict_files(
    predictor: Predictor,
    data: DataConfig,
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
        predictor: of a trained network.
        data: the section of its configuration.
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
    write = writer(out, overwrite)
    if batch < 1:
        raise InputError(f"--batch {batch}: expected at least 1 image")
    if workers is not None and not 1 <= workers <= MOST_WORKERS:
        raise InputError(f"--workers {workers}: expected 1 to {MOST_WORKERS} threads")
    packs = [source for source in sources if is_pack(source)]
    if packs and len(sources) > 1:
        raise InputError(f"{packs[0]}: is a pack; give it alone, and other images in a call of their own")
    skipped: list[tuple[Path, str, str]] = []
    if packs:
        ids, table = _answer_pack(predictor, data, packs[0], batch, progress)
    else:
        ids, table, skipped = _answer_files(predictor, data, sources, batch, workers or cores(), progress)
    write_atomically(out, lambda file: write(file, ids, predictor.network.tree.columns, table))
    return PredictionSummary(len(ids), tuple(skipped))


def _answer_pack(
    predictor: Predictor, data: DataConfig, path: str | Path, batch: int, progress: bool
) -> tuple[Sequence[str], np.ndarray]:
    """Ids, and answers (n, A), of all images of a pack."""
    dataset = open_dataset(path, predictor.network.tree, smallest=data.crop, reach=reach(data), progress=progress)
    recentring = recentring_of(dataset, data, progress=progress)
    answers = []
    with tqdm(total=len(dataset), unit="image", disable=not progress) as bar:
        for rows in batches(range(len(dataset)), batch):
            part = predict_rows(predictor, data, dataset.images, np.array(rows), batch=batch, recentring=recentring)
            answers.append(part)
            bar.update(len(rows))
    return dataset.ids, np.concatenate(answers)


def _answer_files(
    predictor: Predictor, data: DataConfig, sources: Sequence[str | Path], batch: int, workers: int, progress: bool
) -> tuple[Sequence[str], np.ndarray, list[tuple[Path, str, str]]]:
    """Ids and answers (n, A) of all files that can be used, and (path, id, reason) of the others."""
    catalogue = read_catalogue(sources)
    ids: list[str] = []
    skipped: list[tuple[Path, str, str]] = []
    answers: list[np.ndarray] = []
    files = list(zip(catalogue.paths, catalogue.ids, strict=True))
    prepare = preparation(predictor, data)
    decoded = _prefetch_images(files, data.crop, prepare, workers)
    with tqdm(total=len(catalogue.paths), unit="image", disable=not progress) as bar:
        for part in batches(decoded, batch):
            good = [(id_, image) for _, id_, image in part if not isinstance(image, str)]
            skipped += [(path, id_, reason) for path, id_, reason in part if isinstance(reason, str)]
            if good:
                answers.append(answers_of(predictor, data, [image for _, image in good]))
                ids += [id_ for id_, _ in good]
            bar.update(len(part))
    if not ids:
        path, _, reason = skipped[0]
        raise InputError(f"none of {len(skipped)} files can be used; the first is {path}: {reason}")
    return ids, np.concatenate(answers), skipped


def _prefetch_images(
    files: Sequence[tuple[Path, str]], smallest: int, prepare: Callable[[np.ndarray], Prepared], workers: int
) -> Iterator[tuple[Path, str, Prepared | str]]:
    """Yield (path, id, image as ``prepare`` returns it or the reason why not) in order, decoded by threads."""

    def image_of(path: Path) -> Prepared | str:
        try:
            return prepare(decode(path, smallest=smallest))
        except ImageError as error:
            return str(error)

    def prepared(file: tuple[Path, str]) -> tuple[Path, str, Prepared | str]:
        return *file, image_of(file[0])

    return prefetch(prepared, files, workers=workers, most=4 * workers)
