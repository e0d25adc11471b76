"""Speed of augmentation on the CPU: the warp against other libraries, and the whole path from files to batches.

python -m benchmarks.augment --baseline skimage,opencv,scipy,torch --json FILE

Engines take turns, on images that lie in no cache; each row has the median of the samples. One thread an engine, then
two, up to all cores. Then the pool: with one thread against the bare warp; from a pack; from JPEG files.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from gzkern.augment.pool import BatchPool, Images, new_staging_buffer
from gzkern.augment.tables import Tables, tables
from gzkern.augment.warp import warp_batch, warp_reference
from gzkern.config import Config, load_config
from gzkern.core.processes import cores
from gzkern.data.catalogue import list_images
from gzkern.data.encoded import EncodedImages
from gzkern.data.images import decode
from gzkern.data.stamp import stamp_of
from gzkern.device import MOST_WORKERS
from gzkern.errors import InputError

from .baselines.warp_engines import BASELINES, ERRORS, Warp, engine
from .harness.command import call, new_parser
from .harness.options import chosen, file, positive
from .harness.report import print_table, write_rows

_MOST_FILES = 512  # of a folder that are looked at
_IMAGES = 1_500  # that are warped in turn: 0.8 GB, more than any cache holds
_PIECE = 256  # images of a sample of ours; of slower engines so many fewer
_WAY = 2_048  # images of a sample through the pool
_COPIED = 256 << 20  # bytes a thread
_ANSWERS = 37
_SLOTS = 64
COLUMNS = (
    *("name", "threads", "images_per_s", "ns_a_sample", "memory_share", "error"),
    *("baseline", "baseline_images_per_s", "baseline_error", "ratio"),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, write."""
    options = _parse(arguments)
    config = load_config("paper")
    engines = {name: engine(name) for name in ("gzkern", *options.baseline)}
    rows: list[dict[str, Any]] = []
    facts: dict[str, Any] = {
        "images": "drawn galaxies" if options.data is None else "files of a folder",
        "load": os.getloadavg()[0],
    }

    def add(row: dict[str, Any]) -> None:
        rows.append({"device": "cpu", "precision": "fp32", "samples": options.samples, **row})
        if options.json:
            write_rows(options.json, rows, facts)

    errors = {name: _error(warp, config) for name, warp in engines.items()}
    for name, error in errors.items():
        if not error <= ERRORS[name]:
            raise InputError(f"{name}: a sample is off by {error:.1e}, more than the {ERRORS[name]:.0e} it is allowed")
    with tempfile.TemporaryDirectory() as scratch:
        files = _files(options.data, Path(scratch))
        images = _pack_of(files, Path(scratch, "images.npy"))
        facts["bandwidth_gb_s"] = _bandwidth() / 1e9
        for threads in options.threads:
            for row in _warps(engines, errors, images, config, threads, options.samples, facts["bandwidth_gb_s"]):
                add(row)
        add(_overhead(images, config, options.samples))
        stamps = [stamp for path in files if (stamp := stamp_of(path))]
        encoded = EncodedImages(files, stamps, images.shape[1:])
        for name, source in (("pack to batches", images), ("JPEG to batches", encoded)):
            for workers in options.threads:
                add(_way(name, source, config, workers, options.samples))
    print_table(rows, COLUMNS)
    return 0


def _warps(
    engines: dict[str, Warp],
    errors: dict[str, float],
    images: np.ndarray,
    config: Config,
    threads: int,
    samples: int,
    bandwidth: float,
) -> Iterator[dict[str, Any]]:
    """A row a baseline, or one of ours alone."""
    with ThreadPoolExecutor(threads) as executor:
        turns = {name: _Turn(warp, images, config, threads, executor) for name, warp in engines.items()}
        seconds = _take_turns({name: turn.sample for name, turn in turns.items()}, samples)
    ours = seconds["gzkern"]
    baselines: list[str | None] = [name for name in engines if name != "gzkern"]
    for baseline in baselines or [None]:
        theirs = seconds[baseline] if baseline else None
        yield {
            "name": "warp",
            "threads": threads,
            "ms": 1e3 * ours,
            "images_per_s": 1 / ours,
            "ns_a_sample": 1e9 * ours * threads / (2 * config.data.target**2),
            "memory_share": _bytes(images, config) / ours / (1e9 * bandwidth),
            "error": errors["gzkern"],
            "baseline": baseline,
            "baseline_ms": 1e3 * theirs if theirs else None,
            "baseline_images_per_s": 1 / theirs if theirs else None,
            "baseline_error": errors[baseline] if baseline else None,
            "ratio": theirs / ours if theirs else None,
            "verified": "white noise, against float64",
        }


class _Turn:
    """An engine on several threads, which goes on through the images from sample to sample."""

    def __init__(self, warp: Warp, images: np.ndarray, config: Config, threads: int, executor: ThreadPoolExecutor):
        self._warp, self._images, self._config = warp, images, config
        self._threads, self._executor = threads, executor
        self._at, self._count = 0, 4 * threads
        self.sample()  # compiles, allocates
        taken = self.sample()
        self._count = max(threads, min(_PIECE, int(0.05 / taken))) // threads * threads  # of 50 ms or less

    def sample(self) -> float:
        """Seconds an image."""
        examples = np.arange(self._at, self._at + self._count)
        self._at += self._count
        indices, placed = examples % len(self._images), _tables(examples, self._images, self._config)
        target = self._config.data.target
        out = np.zeros((self._count, 2, target, target, 3), np.float32)  # its pages are there
        parts = [
            slice(start, start + self._count // self._threads)
            for start in range(0, self._count, self._count // self._threads)
        ]
        begin = time.perf_counter()
        list(
            self._executor.map(
                lambda p: self._warp(self._images, indices[p], placed[0][p], placed[1][p], out[p]), parts
            )
        )
        return (time.perf_counter() - begin) / self._count


def _overhead(images: np.ndarray, config: Config, samples: int) -> dict[str, Any]:
    """Compare one thread of the pool with the bare warp in the benchmark's own thread."""
    batch, count = config.train.batch, _WAY
    examples = np.arange(count)
    indices, placed = examples % len(images), _tables(examples, images, config)
    staging_buffer = new_staging_buffer(_SLOTS, batch, config.data.target, _ANSWERS)

    def bare() -> float:
        begin = time.perf_counter()
        for k in range(count // batch):
            part = slice(k * batch, (k + 1) * batch)
            warp_batch(images, indices[part], placed[0][part], placed[1][part], staging_buffer["crops"][k % _SLOTS])
        return (time.perf_counter() - begin) / count

    def pooled() -> float:
        return _pool_seconds(images, config, staging_buffer, 1, count)

    pool, alone = _take_turns({"pool": pooled, "bare": bare}, samples).values()
    return {
        "name": "pool over bare warp",
        "threads": 1,
        "ms": 1e3 * pool,
        "images_per_s": 1 / pool,
        "baseline": "bare warp",
        "baseline_ms": 1e3 * alone,
        "baseline_images_per_s": 1 / alone,
        "ratio": alone / pool,
        "overhead_percent": 100 * (pool / alone - 1),
    }


def _way(name: str, images: Images, config: Config, workers: int, samples: int) -> dict[str, Any]:
    """The pool from a source, as training uses it; the reader does nothing."""
    staging_buffer = new_staging_buffer(_SLOTS, config.train.batch, config.data.target, _ANSWERS)
    count = _WAY if isinstance(images, np.ndarray) else _WAY // 4

    def pooled() -> float:
        return _pool_seconds(images, config, staging_buffer, workers, count)

    pooled()
    seconds = statistics.median(pooled() for _ in range(samples))
    return {"name": name, "threads": workers, "ms": 1e3 * seconds, "images_per_s": 1 / seconds}


def _pool_seconds(
    images: Images, config: Config, staging_buffer: dict[str, np.ndarray], workers: int, count: int
) -> float:
    """Seconds an image, from the start of the pool to its last batch."""
    labels = np.zeros((images.shape[0], _ANSWERS), np.float32)
    begin = time.perf_counter()
    pool = BatchPool(
        images,
        labels,
        _index_of(images),
        staging_buffer,
        seed=0,
        augment=config.augment,
        data=config.data,
        first=0,
        stop=count,
        workers=workers,
    )
    for _ in pool:
        pass
    return (time.perf_counter() - begin) / count


def _take_turns(contenders: dict[str, Callable[[], float]], samples: int) -> dict[str, float]:
    """Medians of what contenders measure in turn: A, B, A, B, …; the first of each does not count."""
    found: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(samples + 1):
        for name, sample in contenders.items():
            found[name].append(sample())
    return {name: statistics.median(seconds[1:]) for name, seconds in found.items()}


# What is measured on


def _files(folder: str | None, scratch: Path) -> list[Path]:
    """JPEG files: some of a folder, or of galaxies drawn for it."""
    if folder is None:
        from gzkern.data.demo import draw_demo_set

        draw_demo_set(scratch / "galaxies", 64, seed=1, workers=cores())
        folder = str(scratch / "galaxies" / "images_training_rev1")
    files = [path for path in list_images(folder) if path.suffix.lower() in (".jpg", ".jpeg")][:_MOST_FILES]
    if not files:
        raise InputError(f"--data {folder}: no JPEG files in it")
    shape = decode(files[0], smallest=2).shape
    return [path for path in files if decode(path, smallest=2).shape == shape]


def _pack_of(files: Sequence[Path], path: Path) -> np.ndarray:
    """A memory map of ``_IMAGES`` images, each file's several times over."""
    decoded = np.stack([decode(file, smallest=2) for file in files])
    np.save(path, decoded[np.arange(_IMAGES) % len(decoded)])
    return np.load(path, mmap_mode="r")


def _index_of(images: Images) -> Callable[[int, int], np.ndarray]:
    """One image after the other."""
    count = images.shape[0]
    return lambda start, stop: np.arange(start, stop) % count


def _tables(examples: np.ndarray, images: Images, config: Config) -> Tables:
    """Return the matrices and shifts of training examples, as the pool draws them."""
    indices = _index_of(images)(int(examples[0]), int(examples[-1]) + 1)
    return tables(examples, indices, 0, config.augment, config.data, images.shape[1:3])


def _error(warp: Warp, config: Config) -> float:
    """The largest error against float64 on white noise."""
    target, examples = config.data.target, np.arange(20)
    images = np.random.default_rng(0).integers(0, 256, (len(examples), 424, 424, 3), np.uint8)
    matrices, shifts = _tables(examples, images, config)
    out = np.full((len(examples), 2, target, target, 3), np.nan, np.float32)
    warp(images, examples, matrices, shifts, out)
    exact = np.stack([warp_reference(images[b], matrices[b], target, shifts[b]) for b in examples])
    return float(np.abs(out - exact).max())  # NaN where something was not written


def _bytes(images: np.ndarray, config: Config) -> float:
    """Return the mean bytes that an image moves at least: rows that its crops sample, read once, and its crops."""
    height, width = images.shape[1:3]
    matrices, _ = _tables(np.arange(1_000), images, config)
    last = config.data.target - 1
    rows = matrices[:, :, 1] @ np.array([[0, last, 0, last], [0, 0, last, last], [1, 1, 1, 1]])
    first, stop = np.floor(rows.min(axis=(1, 2))), np.floor(rows.max(axis=(1, 2))) + 2
    read = (np.minimum(stop, height) - np.maximum(first, 0)).mean() * width * 3
    return float(read + 2 * config.data.target**2 * 3 * 4)


def _bandwidth() -> float:
    """Bytes a second that all threads copy, read and written."""
    threads, size = cores(), _COPIED
    blocks = [(np.ones(size, np.uint8), np.ones(size, np.uint8)) for _ in range(threads)]
    best = float("inf")
    with ThreadPoolExecutor(threads) as executor:
        for _ in range(5):
            begin = time.perf_counter()
            list(executor.map(lambda pair: np.copyto(*pair), blocks))
            best = min(best, time.perf_counter() - begin)
    return 2 * threads * size / best


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = new_parser("benchmarks.augment", __doc__)
    names = chosen("baseline", BASELINES)
    text = f"of {', '.join(BASELINES)} (default: none)"
    parser.add_argument("--baseline", type=names, default=[], help=text)
    parser.add_argument("--data", metavar="FOLDER", help="JPEG files to take (default: draws 64 galaxies)")
    every = ",".join(map(str, range(1, cores() + 1)))
    parser.add_argument("--threads", type=_numbers, default=_numbers(every), help=f"with commas (default: {every})")
    parser.add_argument("--samples", type=positive, default=15, help="of each contender (default: 15)")
    parser.add_argument("--json", metavar="FILE", type=file, help="write the rows")
    return parser.parse_args(arguments)


def _numbers(text: str) -> list[int]:
    numbers = [positive(part) for part in text.split(",")]
    if max(numbers) > MOST_WORKERS:
        raise argparse.ArgumentTypeError(f"{max(numbers)}: expected at most {MOST_WORKERS}")
    return numbers


if __name__ == "__main__":
    call(main)
