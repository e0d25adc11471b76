"""Recentring of real galaxies, against the statistics of the original and against SExtractor itself.

python -m benchmarks.recentring FOLDER [FOLDER ...]                    a table in Markdown, of the first and of all
python -m benchmarks.recentring FOLDER --sextractor source-extractor   and how often that program measures the same
python -m benchmarks.recentring --picture docs/recentring.png          galaxies of gzkern demo-data, before and after
"""

from __future__ import annotations

import math
import subprocess
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from gzkern.augment.geometry import crop_matrices
from gzkern.augment.parameters import identity
from gzkern.augment.warp import warp
from gzkern.config import DataConfig
from gzkern.data.catalogue import list_images
from gzkern.data.demo import draw_example
from gzkern.data.images import decode
from gzkern.data.object_search import find_objects
from gzkern.data.recentring import recentring, recentring_of_image
from gzkern.errors import InputError

from .harness.command import call, new_parser
from .harness.report import markdown_table

_SETS = {"gen2": 2.0, "gen1": 10.0}
_S = ("s: 5 %", "s: 25 %", "s: median", "s: 75 %", "s: 95 %")
_ROWS = ("median x", "median y", "median petro · a", *_S, "s clipped below, %", "s clipped above, %", "no object, %")
_PUBLISHED = {
    "gen2": (213.20, 213.32, 170.7, 0.667, 0.828, 0.937, 1.050, 1.21, 5.5, 0.26, 0.0),
    "gen1": (213.21, 213.28, 170.8, *[math.nan] * 7, 100 * 6 / 61578),
}
"""Statistics of the 61,578 training images; x and y, which SExtractor counts from 1, counted from 0."""

_DRAWN = (34, 74, 42, 16, 61)  # of gzkern demo-data: small, off the centre, on the slant, large, and very large


def main(arguments: list[str] | None = None) -> int:
    """Print the tables, or draw the picture."""
    parser = new_parser("benchmarks.recentring", __doc__)
    parser.add_argument("folders", nargs="*", metavar="FOLDER", help="of images of 424×424 pixels")
    parser.add_argument("--sextractor", metavar="PROGRAM", help="run this on the same images and compare")
    parser.add_argument("--picture", metavar="FILE", help="draw galaxies before and after instead")
    options = parser.parse_args(arguments)
    if options.picture:
        draw(options.picture)
        return 0
    if not options.folders:
        raise InputError("name folders of images, or --picture FILE")
    parts = [[decode(path, smallest=207) for path in list_images(folder)] for folder in options.folders]
    if not all(parts):
        raise InputError(f"{', '.join(options.folders)}: expected images in each")
    images = np.stack([image for part in parts for image in part])
    for name, threshold in _SETS.items():
        objects = find_objects(images, name)
        columns = {f"{len(parts[0]):,} of {Path(options.folders[0]).name}": objects[: len(parts[0])]}
        if len(parts) > 1:
            columns[f"all {len(images):,}"] = objects
        print("\n".join(table(name, columns)))
        if options.sextractor:
            print(compare(objects, run_sextractor(options.sextractor, images, threshold)))
    return 0


def table(name: str, columns: dict[str, np.ndarray]) -> list[str]:
    """Markdown: a row a statistic; published, then that of each column's objects, (n, 6), with its standard error."""
    lines = []
    measured = [(statistics(objects), standard_errors(objects)) for objects in columns.values()]
    for row, (label, published) in enumerate(zip(_ROWS, _PUBLISHED[name], strict=True)):
        cells = ["–" if math.isnan(published) else f"{published:.3g}" if published < 1 else f"{published:g}"]
        cells += [f"{values[row]:.{_digits(label)}f} ± {errors[row]:.{_digits(label)}f}" for values, errors in measured]
        lines.append((label, *cells))
    return markdown_table((name, "published", *columns), lines)


def statistics(objects: np.ndarray) -> np.ndarray:
    """The rows of the table, of objects (n, 6)."""
    s = recentring(objects, DataConfig())[:, 2]
    return np.array(
        [
            *np.median(objects[:, :2], axis=0),
            np.nanmedian(objects[:, 5] * objects[:, 2]),
            *np.percentile(s, (5, 25, 50, 75, 95)),
            *(100 * np.mean(s == s_end) for s_end in (1 / 1.5, 1.5)),
            100 * np.mean(np.isnan(objects[:, 2])),
        ]
    )


def standard_errors(objects: np.ndarray, times: int = 1000) -> np.ndarray:
    """Return the standard errors of the statistics, by bootstrap."""
    rng = np.random.default_rng(0)
    drawn = [statistics(objects[rng.integers(0, len(objects), len(objects))]) for _ in range(times)]
    return np.std(drawn, axis=0)


def _digits(label: str) -> int:
    return 3 if label in _S else 2 if "median x" in label or "median y" in label else 1


def run_sextractor(program: str, images: np.ndarray, threshold: float) -> np.ndarray:
    """Return the objects (n, 6) of the program with its defaults, called as the original did; as ``find_objects``."""
    with tempfile.TemporaryDirectory() as folder:
        shared = Path(folder)
        (shared / "default.sex").write_bytes(_run([program, "-d"], shared))
        (shared / "default.conv").write_text("CONV NORM\n# as default.conv\n1 2 1\n2 4 2\n1 2 1\n")
        names = ("X_IMAGE", "Y_IMAGE", "A_IMAGE", "B_IMAGE", "THETA_IMAGE", "PETRO_RADIUS")
        (shared / "default.param").write_text("\n".join(names) + "\n")
        with ThreadPoolExecutor() as pool:
            found = pool.map(lambda n: _measure(program, shared, n, images[n], threshold), range(len(images)))
            return np.stack(list(found))


def _measure(program: str, shared: Path, number: int, image: np.ndarray, threshold: float) -> np.ndarray:
    from astropy.io import fits

    # Transposed, as pysex hands it over.
    picture, catalogue = shared / f"{number}.fits", shared / f"{number}.cat"
    fits.writeto(picture, np.ascontiguousarray(image[..., 1].T, np.float32) / np.float32(255))
    _run([program, picture.name, "-CATALOG_NAME", catalogue.name, "-DETECT_THRESH", str(threshold)], shared)
    rows = np.loadtxt(catalogue, ndmin=2)
    picture.unlink()
    if not rows.size:
        return np.array([211.5, 211.5, *[math.nan] * 4])
    y, x, a, b, theta, petro = rows.T
    x, y = x - 1, y - 1
    best = np.argmax(a * b * np.exp(-((x - 211.5) ** 2 + (y - 211.5) ** 2) / 5000))
    return np.array([x[best], y[best], a[best], b[best], np.deg2rad(90 - theta[best]), petro[best]])


def _run(command: Sequence[str], folder: Path) -> bytes:
    try:
        return subprocess.run(command, cwd=folder, capture_output=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        raise InputError(f"--sextractor: {error}") from None


def compare(ours: np.ndarray, theirs: np.ndarray) -> str:
    """Say in a sentence how far apart the two are."""
    apart = np.hypot(*(ours - theirs)[:, :2].T)
    size = np.abs((ours[:, 5] * ours[:, 2]) / (theirs[:, 5] * theirs[:, 2]) - 1)

    def share(values: np.ndarray, below: float) -> str:
        return f"{100 * np.mean(values < below):.1f} %"

    return (
        f"SExtractor: centres within 0.001 pixel {share(apart, 0.001)}, within 1 pixel {share(apart, 1)}; "
        f"petro · a within 0.2 % {share(size, 0.002)}, within 1 % {share(size, 0.01)}\n"
    )


def draw(path: str) -> None:
    """A column a demo galaxy: its unrotated crop without recentring, and with it."""
    from matplotlib.figure import Figure

    plain, recentred = DataConfig(), DataConfig(recentre="gen2")
    figure = Figure(figsize=(8, 3.5), layout="constrained")
    axes = figure.subplots(2, len(_DRAWN))
    for column, index in enumerate(_DRAWN):
        image, _ = draw_example(index, seed=0)
        found = recentring_of_image(image, recentred)
        assert found is not None
        axes[0, column].set_title(f"s = {found[0, 2]:.2f}", fontsize=10)
        for row, where in enumerate((None, found)):
            matrices = crop_matrices(identity(1), image.shape[:2], plain.target, plain.scale, where)
            panel = axes[row, column]
            panel.imshow(warp([image], matrices, plain.target)[0, 0], interpolation="bilinear")
            panel.axhline(34, color="white", linewidth=0.4)
            panel.axvline(34, color="white", linewidth=0.4)
            panel.set(xticks=(), yticks=())
    for row, label in enumerate(("none", "gen2")):
        axes[row, 0].set_ylabel(f'recentre = "{label}"', fontsize=9)
    figure.savefig(path, dpi=90)


if __name__ == "__main__":
    call(main)
