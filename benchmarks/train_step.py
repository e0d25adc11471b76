"""The training step and prediction of the whole network, against PyTorch.

python -m benchmarks.train_step --device cpu --baseline torch --json benchmarks/results/train_step_cpu.json
python -m benchmarks.train_step --device cuda --baseline torch,torch.compile --json FILE

A row is one engine's training step or prediction of one batch in one precision; bf16 only predicts. Crops and targets
lie on the device. PyTorch computes in the same precision, in all variants that its users know to be fast; where an
engine fails, its row says why. On a GPU there are also batches that are only predicted, the floor
(benchmarks/harness/floor.py), and in the file the launches of our passes. "gzkern eager" launches kernel by kernel, in
NVTX ranges for a profiler; "gzkern side stream" updates the dense weights on a side stream, as training does not.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import gzkern
from gzkern.config import Config, load_config
from gzkern.device import select
from gzkern.errors import GzkernError
from gzkern.models.network import empty_network

from .harness.command import call, new_parser
from .harness.engines import PREDICT, STEP, Build, Case, Engine
from .harness.floor import floor, predict_work, step_work
from .harness.gzkern_engine import Gzkern
from .harness.network_check import exact_answers, gradients_verdict
from .harness.options import batches, chosen, file, minutes, positive
from .harness.peaks import Peaks, peaks_of
from .harness.report import LATE, print_table, spread, write_rows
from .harness.turns import Measured, take_turns
from .harness.verify import PRECISIONS

PAPER_STEPS = 1_562_500
SUBMISSION = 17 * 60 * 79_975
"""Predictions of the winning submission: networks × views × images."""

_LAST: dict[str, Any] = {"channels_last": True}
_GRAPH: dict[str, Any] = {"captured": True}
_EAGER = {"torch": {}, "torch channels-last": _LAST}
_VARIANTS: dict[str, dict[str, dict[str, dict[str, Any]]]] = {
    "torch": {
        "cpu": _EAGER,
        "cuda": {**_EAGER, "torch graph": _GRAPH, "torch channels-last graph": _LAST | _GRAPH},
        "emulated": {},
    },
    "torch.compile": {"cpu": {}, "cuda": {"torch compiled": {"compiled": "reduce-overhead"}}, "emulated": {}},
    "torch.max-autotune": {"cpu": {}, "cuda": {"torch max-autotune": {"compiled": "max-autotune"}}, "emulated": {}},
}
"""Variants of PyTorch by baseline, device and name; both modes of torch.compile capture CUDA graphs."""

_TRAINED = {"cpu": [16], "cuda": [16, 256], "emulated": [2]}
_PREDICTED = [960, 16, 64, 1]  # on a GPU, most telling first; 960 are 16 images with 60 views each
_MOST_OF_FLOOR = 105  # per cent, as activations may stay in the cache
DERIVED = (
    *("ms", "ms_p20", "ms_p80", "images_per_s", "baseline", "ratio", "paper_run_hours", "paper_run_minutes"),
    *("submission_minutes", "floor_ms", "floor_percent", "bound_by"),
)
"""Keys of a row that are None where they are not known; ``ratio`` above 1 is a baseline that takes longer."""
_COLUMNS = (
    *("name", "precision", "batch", "engine", "ms", "ms_p20", "ms_p80", "images_per_s", "ratio", "baseline"),
    *("floor_percent", "peak_mib", "failed"),
)


@dataclass(frozen=True)
class Setting:
    """Passes of one batch in one precision."""

    precision: str
    batch: int
    passes: tuple[str, ...]


@dataclass(frozen=True)
class Bench:
    """The bench on which settings are measured.

    Attributes:
        config: of the network.
        published: whether that is the paper's.
        device: by name.
        peaks: of the device.
        baselines: libraries to compare with.
        threads: of the CPU.
        repeats: samples of an engine's pass.
    """

    config: Config
    published: bool
    device: str
    peaks: Peaks
    baselines: Sequence[str]
    threads: int
    repeats: int


def main(arguments: list[str] | None = None) -> int:
    """Measure, print a table and write JSON; 1 if our own engine failed."""
    options = _parse(arguments)
    deadline = time.monotonic() + 60 * options.minutes
    facts = _facts(options.device)
    bench = _bench(options, facts)
    rows: list[dict[str, Any]] = []
    launches: list[dict[str, Any]] = []
    try:
        for setting in settings(options.precision, options.batch, options.predicted):
            late = time.monotonic() > deadline
            found = _not_measured(setting) if late else measure(setting, bench)
            rows += rows_of(setting, bench, found)
            launches += launches_of(setting, found)
            if options.json:
                write_rows(options.json, rows, facts | ({"launches": launches} if launches else {}))
    finally:
        print_table(rows, _COLUMNS)
    return 1 if any(row["engine"] == "gzkern" and row["failed"] not in (None, LATE) for row in rows) else 0


def settings(precisions: Iterable[str], trained: Iterable[int], predicted: Iterable[int]) -> list[Setting]:
    """First those that are trained in, precisions and batches as given, then those that are only predicted in."""
    passes: dict[tuple[str, int], list[str]] = {}
    for precision in precisions:
        for batch in trained if precision != "bf16" else ():
            passes.setdefault((precision, batch), []).append(STEP)
    for batch in predicted:
        for precision in precisions:
            passes.setdefault((precision, batch), []).append(PREDICT)
    return [Setting(precision, batch, tuple(names)) for (precision, batch), names in passes.items()]


def contenders(setting: Setting, bench: Bench) -> dict[str, tuple[Build, Case]]:
    """Return engines and their cases by name, ours first."""
    train = replace(bench.config.train, batch=setting.batch)
    case = Case(replace(bench.config, train=train), bench.device, setting.precision, bench.threads)
    found: dict[str, tuple[Build, Case]] = {"gzkern": (Gzkern, case)}
    if bench.device == "cuda" and setting.precision != "bf16":
        found["gzkern eager"] = partial(Gzkern, recorded=False), case
        if STEP in setting.passes:
            found["gzkern side stream"] = partial(Gzkern, side_stream=True), case
    for baseline in bench.baselines:
        variants = _VARIANTS[baseline][bench.device]
        found |= {name: (partial(torch_engine, **variant), case) for name, variant in variants.items()}
    if "torch" in bench.baselines:
        if bench.device == "cpu":
            found["torch channels-last bf16"] = partial(torch_engine, **_LAST), replace(case, precision="bf16")
        elif setting.precision == "bf16":
            found["torch bf16 weights graph"] = partial(torch_engine, bf16_weights=True, **_LAST, **_GRAPH), case
    return found


def torch_engine(case: Case, **options: Any) -> Engine:
    """Build :class:`.baselines.torch_engine.Torch`; PyTorch is imported in the engine's own process alone."""
    from .baselines.torch_engine import Torch

    return Torch(case, **options)


def measure(setting: Setting, bench: Bench) -> dict[tuple[str, str], Measured]:
    """Measure a setting; return the measurements by pass and engine."""
    found = take_turns(contenders(setting, bench), setting.passes, bench.repeats, exact_answers(bench.config))
    if STEP in setting.passes and bench.baselines:
        ours = found[STEP, "gzkern"]
        try:
            ours.verified = gradients_verdict(bench.config, bench.device, setting.precision)
        except (GzkernError, RuntimeError) as error:
            ours.failed = ours.failed or str(error)
    return found


def rows_of(setting: Setting, bench: Bench, found: Mapping[tuple[str, str], Measured]) -> list[dict[str, Any]]:
    """Return a row a pass and engine; ours names the fastest rival in its precision."""
    rows = []
    for (what, name), measured in found.items():
        row = _row(setting, bench, what, name, measured)
        if name == "gzkern" and not measured.failed:
            rivals = {
                other: rival.median
                for (pass_, other), rival in found.items()
                if pass_ == what and other.startswith("torch") and rival.precision == measured.precision
            }
            best = min(rivals, key=lambda other: rivals[other], default=None)
            if best and rivals[best] < float("inf"):
                row |= {"baseline": best, "ratio": round(rivals[best] / measured.median, 3)}
            if row["floor_percent"] and row["floor_percent"] > _MOST_OF_FLOOR:
                row["failed"] = f"{row['ms']} ms are below the floor of {row['floor_ms']}: time or count is wrong"
        rows.append(row)
    return rows


def launches_of(setting: Setting, found: Mapping[tuple[str, str], Measured]) -> list[dict[str, Any]]:
    """Return the launches of our passes, in order."""
    return [
        {
            "name": what,
            "precision": setting.precision,
            "batch": setting.batch,
            "operation": operation,
            "kernel": kernel,
            "ms": round(ms, 6),
        }
        for (what, _), measured in found.items()
        for operation, kernel, ms in measured.launches
    ]


def _bench(options: argparse.Namespace, facts: dict[str, Any]) -> Bench:
    config = load_config(options.config)
    # The published start leaves all answers nearly equal, whatever the images are. A precision is part of a case.
    started = replace(config, train=replace(config.train, init="fan_in", precision="fp32"))
    peaks = peaks_of(facts if options.device == "cuda" else {})
    published = config == load_config("paper")
    return Bench(started, published, options.device, peaks, options.baseline, options.threads, options.repeats)


def _not_measured(setting: Setting) -> dict[tuple[str, str], Measured]:
    return {(what, "gzkern"): Measured(setting.precision, failed=LATE) for what in setting.passes}


def _row(setting: Setting, bench: Bench, what: str, name: str, measured: Measured) -> dict[str, Any]:
    shares = measured.python_shares
    return {
        "name": what,
        "engine": name,
        "device": bench.device,
        "precision": measured.precision,
        "batch": setting.batch,
        "threads": bench.threads,
        "repeats": bench.repeats,
        **dict.fromkeys(DERIVED),
        **({} if measured.failed else _derived(setting, bench, what, measured)),
        "python_share": round(statistics.median(shares), 5) if shares else None,
        "peak_mib": measured.peak_bytes and round(measured.peak_bytes / 2**20),
        "engine_version": _torch_version() if name.startswith("torch") else gzkern.__version__,
        "verified": measured.verified,
        "failed": measured.failed,
    }


def _derived(setting: Setting, bench: Bench, what: str, measured: Measured) -> dict[str, Any]:
    """Return the values of a row that follow from its times."""
    seconds, batch = measured.median, setting.batch
    network = empty_network(bench.config, "cpu")
    found: dict[str, Any] = {**spread(measured.seconds), "images_per_s": round(batch / seconds, 1)}
    if bench.published and what == STEP and batch == bench.config.train.batch:
        found["paper_run_hours"] = round(seconds * PAPER_STEPS / 3600, 1)
        found["paper_run_minutes"] = round(seconds * PAPER_STEPS / 60, 1)
    if bench.published and what == PREDICT:
        found["submission_minutes"] = round(SUBMISSION / batch * seconds / 60, 1)
    itemsize = 2 if measured.precision == "bf16" else 4
    work = step_work(network, batch) if what == STEP else predict_work(network, batch, itemsize)
    if least := floor(work, bench.peaks, measured.precision):
        ms, found["bound_by"] = least
        found |= {"floor_ms": round(ms, 6), "floor_percent": round(1e-1 * ms / seconds, 1)}
    return found


def _facts(device: str) -> dict[str, Any]:
    facts = select(device).describe()
    if device == "cuda":
        from gzkern.runtime.gpu import describe

        facts = {**describe(0), **facts}
    return facts


def _torch_version() -> str | None:
    try:
        return version("torch")
    except PackageNotFoundError:
        return None


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = new_parser("benchmarks.train_step", __doc__)
    parser.add_argument("--device", choices=tuple(_TRAINED), default="cpu", help="default: %(default)s")
    parser.add_argument("--config", default="paper", help="preset or TOML file (default: %(default)s)")
    precisions = chosen("precision", PRECISIONS, everything=True)
    parser.add_argument("--precision", type=precisions, help="some with commas (default: fp32; on cuda all)")
    parser.add_argument("--batch", type=batches, help="images of a step, with commas (default: 16; on cuda 16,256)")
    text = "images of a prediction (default: those of a step; on cuda 960,16,64,1)"
    parser.add_argument("--predict-batch", dest="predicted", type=batches, help=text)
    parser.add_argument("--predict-only", action="store_true", help="measure no training")
    parser.add_argument("--threads", type=positive, default=len(os.sched_getaffinity(0)), help="of the CPU")
    parser.add_argument("--repeats", type=positive, default=15, help="samples of an engine (default: %(default)s)")
    parser.add_argument(
        "--baseline", type=chosen("baseline", _VARIANTS), default=[], help=f"of {', '.join(_VARIANTS)}; or none"
    )
    parser.add_argument("--minutes", type=minutes, default=float("inf"), help="begin nothing new after so many")
    parser.add_argument("--json", metavar="FILE", type=file, help="write the rows")
    options = parser.parse_args(arguments)
    on_gpu = options.device == "cuda"
    options.precision = options.precision or (list(PRECISIONS) if on_gpu else ["fp32"])
    options.batch = options.batch or _TRAINED[options.device]
    options.predicted = options.predicted or (_PREDICTED if on_gpu else options.batch)
    options.batch = [] if options.predict_only else options.batch
    return options


if __name__ == "__main__":
    call(main)
