"""The launches of a training step in time: a table, JSON and a picture, without a GPU.

python -m benchmarks.profile.timeline --precision fp32 --png docs/step_fp32.png
python -m benchmarks.profile.timeline --precision fp32,tf32 --json benchmarks/results/timeline_predicted.json
python -m benchmarks.profile.timeline --measured benchmarks/results/train_step_cuda.json --png step.png

The step is recorded as training records it, with augmentation on the device, and replayed on the emulated device, a few
blocks a launch. Times are PREDICTED from that, as benchmarks/profile/kernel_report.py does it; or they are what
benchmarks.train_step measured of each launch by itself. Without --fused or --side-stream, both ways to update the dense
weights are predicted; docs/step.md describes them.

What two launches at once cost each other is not known. "at_least_us" has both branches run as fast as alone,
"at_most_us" all launches one after the other.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from gzkern.config import Config, load_config
from gzkern.core.shapes import VIEWS
from gzkern.device import KernelDevice
from gzkern.errors import InputError
from gzkern.models.network import empty_network
from gzkern.nn.optimiser import Nesterov
from gzkern.runtime.capture import Buffer, CapturingBackend, Launch, Program
from gzkern.runtime.emulator import backend
from gzkern.runtime.emulator.trace import LaunchTrace
from gzkern.training.feeds import ImageFeed
from gzkern.training.step import capture_step

from ..harness.command import call, new_parser
from ..harness.engines import STEP
from ..harness.floor import floor, step_work
from ..harness.options import chosen, file, positive
from ..harness.peaks import Peaks, peaks_of
from ..harness.report import print_table, write_rows
from . import disassembly
from .kernel_report import BLOCKS, extents, look
from .model import GPUS, Gpu, array_bytes
from .schedule import Bar, Timeline, lay_out

PRECISIONS = ("fp32", "tf32", "fp32x3")
UPDATES = ("fused", "side stream")  # the first as in training
GAP = 1.0
"""Microseconds from one launch of a CUDA graph to the next of its branch: an assumption, nothing measured."""

_SIDE = 424  # pixels of a published image
_COLUMNS = ("operation", "kernel", "geometry", "side_stream", "start_us", "us", "bound_by", "MB", "GFLOP")


def main(arguments: list[str] | None = None) -> int:
    """Predict or read, print, write, draw."""
    options = _parse(arguments)
    config = load_config(options.config)
    config = replace(config, train=replace(config.train, batch=options.batch))
    if options.measured:
        times = f"measured, one launch after the other, by {options.measured}"
        timelines = measured(options.measured, config, options.precision)
    else:
        gpu = GPUS[options.gpu]
        times = f"PREDICTED on {gpu.name}, not measured; {GAP:g} µs before each launch are assumed"
        timelines = predicted(config, options.precision, options.updates or UPDATES, gpu, options.blocks)
    rows = [[_row(timeline, bar) for bar in timeline.bars] for timeline in timelines]
    for timeline, some in zip(timelines, rows, strict=True):
        print(f"\n{timeline.precision}, {timeline.update}")
        print_table([_shown(row) for row in some], _COLUMNS)
    print(f"\nTimes are {times}")
    totals = [_total(timeline) for timeline in timelines]
    print_table(totals, list(totals[0]))
    if options.json:
        write_rows(options.json, [row for some in rows for row in some], {"times": times, "totals": totals})
    if options.png:
        _draw(timelines, times, options.png)
    return 0


def predicted(
    config: Config, precisions: Iterable[str], updates: Iterable[str], gpu: Gpu, blocks: int = BLOCKS
) -> list[Timeline]:
    """Return a timeline a precision and way to update, of PREDICTED times.

    Args:
        config: of the network and its batch.
        precisions: of ``PRECISIONS``.
        updates: of ``UPDATES``.
        gpu: whose times.
        blocks: of a launch, that are traced.

    Raises:
        InputError: no g++; no compiler for a GPU.
    """
    disassembly.require()
    backend.require()
    step, traces = _Step(config), _Traces(blocks)
    timelines = []
    for precision in precisions:
        bound = floor(step_work(step.network, step.batch), _peaks(gpu), precision)
        least = 1e3 * bound[0] if bound else None
        for update in updates:
            recorder = step.record(precision, update)
            bars = [_bar(*found, step.flops(*found), gpu) for found in traces.of(recorder)]
            taken = update == _update(step.side_stream(precision))
            timelines.append(Timeline(precision, step.batch, update, taken, lay_out(bars, GAP), GAP, least))
    return timelines


def measured(path: str | Path, config: Config, precisions: Iterable[str]) -> list[Timeline]:
    """Return a timeline a precision from the launches that ``benchmarks.train_step`` measured, gaps included.

    Raises:
        InputError: the file is no such file, or has no launches of such a step.
    """
    try:
        document = json.loads(Path(path).read_text(encoding="utf-8"))
        launches, rows = document["launches"], document["rows"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: expected what benchmarks.train_step writes on a GPU, got {error!r}") from None
    step = _Step(config)
    timelines = []
    for precision in precisions:
        here = {"name": STEP, "precision": precision, "batch": step.batch}
        found = [each for each in launches if here.items() <= each.items()]
        if not found:
            raise InputError(f"{path}: has no launches of a step of {step.batch} images in {precision}")
        side_stream = step.side_stream(precision)
        names = [(each["operation"], each["kernel"]) for each in found]
        bars = [Bar(*name, name in side_stream, 1e3 * each["ms"]) for name, each in zip(names, found, strict=True)]
        ours = next(row for row in rows if (here | {"engine": "gzkern"}).items() <= row.items())
        least, whole = (ours[name] and 1e3 * ours[name] for name in ("floor_ms", "ms"))
        timelines.append(Timeline(precision, step.batch, _update(side_stream), True, lay_out(bars), 0.0, least, whole))
    return timelines


class _Step:
    """A training step on the emulated device, of zeros as weights and of random images."""

    def __init__(self, config: Config):
        self.batch, self._train = config.train.batch, config.train
        device = KernelDevice("emulated", backend)
        self.network = empty_network(config, device)
        for parameter in self.network.specifications():
            self.network.parameters[parameter.name] = device.asarray(np.zeros(parameter.shape, np.float32))
        self._optimiser = Nesterov(device, self.network.parameters, config.train.momentum)
        images = np.random.default_rng(0).integers(0, 256, (self.batch, _SIDE, _SIDE, 3), np.uint8)
        labels = np.zeros((self.batch, len(self.network.tree)), np.float32)
        self._feed = ImageFeed(backend, self.network, images, labels, np.arange, config, stop=1)
        self._feed.provide(0)

    def record(self, precision: str, update: str = UPDATES[0]) -> CapturingBackend:
        """Its launches after the warm-up."""
        self.network.precision = precision
        return capture_step(
            self.network, self._optimiser, self._train, self._feed, True, side_stream=update == "side stream"
        )

    def side_stream(self, precision: str) -> set[tuple[str, str]]:
        """Return operation and kernel of the launches on the side stream in training."""
        return {(each.operation, each.kernel.name) for each in self.record(precision).launches if each.side_stream}

    def flops(self, launch: Launch, trace: LaunchTrace) -> int | None:
        """Return the FLOP of a launch's products; None where it has none."""
        layers = {layer.name: layer for layer in self.network.layers()}
        layer = layers.get(launch.operation.removesuffix(" backward"))
        if layer is None or not (trace.multiply_adds or any("mma" in name for name in trace.calls)):
            return None
        products = 2 if "update_data" in launch.kernel.name else 1
        return 2 * products * layer.macs(self.batch if layer in self.network.dense else self.batch * VIEWS)


class _Traces:
    """Traces of launches on the emulated device; equal launches are traced once."""

    def __init__(self, blocks: int):
        self._blocks = blocks
        self._found: dict[Any, LaunchTrace] = {}

    def of(self, recorder: CapturingBackend) -> Iterator[tuple[Launch, LaunchTrace]]:
        """Every launch, in order, with its trace."""
        backend.compile_all({(each.kernel.file, each.kernel.tile) for each in recorder.launches}, "trace")
        with backend.settings(mode="trace", blocks=self._blocks):
            program = Program(recorder)
            for launch, play in zip(program.launches, program.calls, strict=True):
                shapes = (each.shape if isinstance(each, Buffer) else each for each in launch.arguments)
                key = launch.kernel, launch.geometry, *shapes
                if key not in self._found:
                    backend.trace()
                    play()
                    (self._found[key],) = backend.trace()
                yield launch, self._found[key]


def _bar(launch: Launch, trace: LaunchTrace, flops: int | None, gpu: Gpu) -> Bar:
    prediction = look(trace, gpu).prediction
    assert prediction is not None
    return Bar(
        launch.operation,
        launch.kernel.name,
        launch.side_stream,
        prediction.total,
        geometry=f"{extents(launch.geometry.grid)} of {extents(launch.geometry.block)}",
        bound_by=prediction.binding,
        bytes=array_bytes(trace),
        flops=flops,
    )


def _update(side_stream: Collection[Any]) -> str:
    return "side stream" if side_stream else "fused"


def _peaks(gpu: Gpu) -> Peaks:
    """Return the peaks of a GPU by its datasheet."""
    lanes = 128 * gpu.multiprocessors
    return peaks_of(
        {
            "compute_capability": gpu.capability / 10,
            "multiprocessors": gpu.multiprocessors,
            "clock_mhz": gpu.clock_mhz,
            "peak_fp32_tflops": 2e-6 * lanes * gpu.clock_mhz,
            "peak_memory_gb_s": gpu.memory_gb_s,
            "l2_bytes": gpu.l2_bytes,
        }
    )


def _total(timeline: Timeline) -> dict[str, Any]:
    return {
        "precision": timeline.precision,
        "batch": timeline.batch,
        "update": timeline.update,
        "taken": timeline.taken,
        "launches": len(timeline.bars),
        "side_stream": sum(bar.side_stream for bar in timeline.bars),
        "moved_mb": round(sum(bar.bytes or 0 for bar in timeline.bars) / 1e6) or None,
        "at_least_us": round(timeline.at_least, 1),
        "at_most_us": round(timeline.at_most, 1),
        "step_us": timeline.step_us,
        "floor_us": timeline.floor_us and round(timeline.floor_us, 1),
    }


def _row(timeline: Timeline, bar: Bar) -> dict[str, Any]:
    times = {"start_us": round(bar.start, 2), "us": round(bar.us, 2)}
    step = {"precision": timeline.precision, "batch": timeline.batch, "update": timeline.update}
    rest = {name: value for name, value in asdict(bar).items() if name not in ("start", "us")}
    return step | rest | {"kind": bar.kind} | times


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    """With numbers for reading."""
    megabytes, gflop = (row[name] and row[name] / unit for name, unit in (("bytes", 1e6), ("flops", 1e9)))
    return row | {"MB": megabytes, "GFLOP": gflop, "side_stream": "yes" if row["side_stream"] else ""}


def _draw(timelines: Sequence[Timeline], times: str, path: str) -> None:
    try:
        from .timeline_picture import draw

        draw(timelines, times, path)
    except ImportError:
        raise InputError(f"{path}: drawing needs matplotlib; pip install matplotlib") from None


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = new_parser("benchmarks.profile.timeline", __doc__)
    precisions = chosen("precision", PRECISIONS, everything=True)
    parser.add_argument("--precision", type=precisions, default=["fp32"], help="some with commas (default: fp32)")
    parser.add_argument("--batch", type=positive, default=16, help="images (default: %(default)s)")
    parser.add_argument("--config", default="paper", help="preset or TOML file (default: %(default)s)")
    ways = parser.add_mutually_exclusive_group()
    for update in UPDATES:
        text = f"predict the {update} update of the dense weights alone (default: both)"
        flag = f"--{update.replace(' ', '-')}"
        ways.add_argument(flag, dest="updates", action="store_const", const=[update], help=text)
    ways.add_argument("--measured", metavar="FILE", help="show what benchmarks.train_step wrote into this file")
    parser.add_argument("--gpu", choices=tuple(GPUS), default="H100", help="of the prediction (default: %(default)s)")
    text = "of a launch to trace (default: %(default)s)"
    parser.add_argument("--blocks", type=positive, default=BLOCKS, help=text)
    parser.add_argument("--json", metavar="FILE", type=file, help="write the rows")
    parser.add_argument("--png", metavar="FILE", type=file, help="draw them")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    call(main)
