"""A report on the kernels of an operation's pass without a GPU: memory trace, machine code, predicted time.

python -m benchmarks.profile.kernel_report conv2d_forward --layer conv2
python -m benchmarks.profile.kernel_report dense_backward_weights --layer dense1 --json report.json

For every version: the launches that the binding makes, registers, shared memory and resident blocks, the hottest loop,
what each line asks of memory, and the PREDICTED time on a GPU of a datasheet. docs/kernel_report.md tells how to read
it.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import PurePath
from typing import Any

import numpy as np

from gzkern.core.shapes import Conv2dSizes
from gzkern.cuda.conv2d import choice
from gzkern.cuda.conv2d import operation as conv2d
from gzkern.device import select
from gzkern.errors import InputError
from gzkern.runtime.emulator import backend
from gzkern.runtime.emulator.trace import Access, LaunchTrace

from ..harness.command import call, new_parser
from ..harness.operation_counts import Work, conv2d_work
from ..harness.options import file
from ..harness.problems.layers import LAYERS, PASSES, published
from ..harness.problems.operations import OPERATIONS
from ..harness.report import machine, print_table, write_json
from . import disassembly, model
from .disassembly import Code
from .model import GPUS, Gpu, Prediction

CONVOLUTIONS = tuple(f"conv2d_{name}" for name in PASSES)
BLOCKS = 4  # of a launch that are traced

_WRAPPERS = "float4.cuh", "async_copy.cuh", "mma.cuh"
_MIX = {
    "FFMA": ("FFMA",),
    "mma": ("HMMA", "HGMMA"),
    "LDS": ("LDS", "LDSM"),
    "STS": ("STS",),
    "LDG": ("LDG",),
    "LDGSTS": ("LDGSTS",),
}


@dataclass(frozen=True)
class Version:
    """One way to run an operation.

    Attributes:
        chosen: whether a user gets this version in this precision.
        call: makes the launches.
        work: of the launches, at least.
    """

    name: str
    precision: str
    chosen: bool
    call: Callable[[], Any]
    work: Work


@dataclass(frozen=True)
class Launch:
    """A launch of a version, with the code and the prediction where there is a compiler for the GPU."""

    trace: LaunchTrace
    code: Code | None
    prediction: Prediction | None


def main(arguments: list[str] | None = None) -> int:
    """Print the report, and write it."""
    parser = new_parser("benchmarks.profile.kernel_report", __doc__)
    parser.add_argument("operation", help=f"such as {', '.join(CONVOLUTIONS)}, dense_forward, relu_backward")
    parser.add_argument("--layer", help="of the published network (default: the operation's first, for conv2d conv2)")
    parser.add_argument("--batch", type=int, default=16, help="images (default: %(default)s)")
    parser.add_argument("--version", help="one alone (default: all that take the sizes)")
    parser.add_argument("--gpu", default="H100", help=f"{' or '.join(GPUS)} (default: %(default)s)")
    parser.add_argument("--blocks", type=int, default=BLOCKS, help="of a launch to trace (default: %(default)s)")
    parser.add_argument("--json", metavar="FILE", type=file, help="write it all")
    options = parser.parse_args(arguments)
    title, found = versions(options.operation, options.layer, options.batch)
    if options.version is not None:
        found = [each for each in found if each.name == options.version] or _unknown(
            "version", options.version, [each.name for each in found]
        )
    if options.blocks < 1:
        raise InputError(f"blocks is {options.blocks}, expected 1 or more")
    if options.gpu not in GPUS:
        _unknown("GPU", options.gpu, list(GPUS))
    reports = _report(title, found, GPUS[options.gpu], options.blocks)
    if options.json:
        document = {**machine(), "title": title, "gpu": asdict(GPUS[options.gpu]), "times": "PREDICTED, not measured"}
        document["versions"] = [
            {
                "version": version.name,
                "chosen": version.chosen,
                "work": asdict(version.work),
                "launches": [_row(each) for each in launches],
            }
            for version, launches in reports
        ]
        write_json(options.json, document)
    return 0


def versions(operation: str, layer: str | None = None, batch: int = 16) -> tuple[str, list[Version]]:
    """Return a title, and a call for each version of an operation.

    Args:
        operation: with its pass, such as "conv2d_forward".
        layer: of the published network; None: "conv2" of a convolution, else the operation's first.
        batch: images.

    Raises:
        InputError: there is no such operation or layer.
    """
    if batch < 1:
        raise InputError(f"batch is {batch}, expected 1 or more images")
    if operation in CONVOLUTIONS:
        layer = layer or "conv2"
        if layer not in LAYERS:
            _unknown("layer", layer, list(LAYERS))
        sizes, epilogue = published(layer, batch)
        title = f"{operation}, {layer}: x {sizes.x}, weight {sizes.weight}, {epilogue}"
        return title, list(convolutions(operation, sizes, epilogue))
    return _other(operation, layer, batch)


def convolutions(operation: str, sizes: Conv2dSizes, epilogue: str) -> Iterator[Version]:
    """Yield one call for each version and precision of a pass.

    Data are zeros: what a kernel asks of memory depends on sizes alone.
    """
    pass_name = operation.removeprefix("conv2d_")
    function = {"conv2d_forward": conv2d.convolve}.get(operation) or getattr(conv2d, pass_name)
    pairs = [(name, "fp32") for name in choice.LADDERS[pass_name].versions]
    pairs += [(name, each) for name, found in choice.ALGORITHMS[pass_name].items() for each in found.kernels]
    for name, precision in pairs:
        arrays = _zeros(sizes, epilogue, np.uint16 if precision == "bf16" else np.float32)
        given = {each: arrays[each] for each in inspect.signature(function).parameters if each in arrays}
        call = partial(function, **given, version=name, precision=precision)
        work = conv2d_work(sizes, pass_name, epilogue, 2 if precision == "bf16" else 4)
        title = name if precision == "fp32" else f"{name} {precision}"
        yield Version(title, precision, _is_chosen(pass_name, sizes, epilogue, name, precision), call, work)


def _is_chosen(pass_name: str, sizes: Conv2dSizes, epilogue: str, version: str, precision: str) -> bool:
    try:
        found = choice.choose(pass_name, sizes, epilogue, backend.limits, precision)
    except InputError:
        return False
    return (found.version, found.precision) == (version, precision)


def trace(version: Version, blocks: int) -> list[LaunchTrace]:
    """Trace the launches of a version, some blocks of each.

    Raises:
        InputError: the version does not take the sizes; no compiler.
    """
    backend.trace()
    with backend.settings(mode="trace", blocks=blocks):
        version.call()
    return backend.trace()


def look(launch: LaunchTrace, gpu: Gpu) -> Launch:
    """Return a launch with its code and its prediction; ``disassembly.require`` must have passed."""
    code = disassembly.read(launch.kernel, gpu.architecture)
    return Launch(launch, code, model.predict(launch, code, gpu))


def extents(sizes: Sequence[int]) -> str:
    """Write the extents of a grid or a block in words."""
    return "×".join(map(str, sizes))


def lines_of(access: Access) -> str:
    """Write the lines that lead to an access, each file named once in a row, without those that wrap an instruction."""
    shown = [PurePath(line).name for line in access.where]
    short = [line for line in shown if not line.startswith(_WRAPPERS)] or shown
    text = file = ""
    for line in short:
        name, _, number = line.partition(":")
        text += f"{' > ' if text else ''}{number if name == file else line}"
        file = name
    return text


def _other(operation: str, layer: str | None, batch: int) -> tuple[str, list[Version]]:
    """A pass of an operation that is no convolution, as the benchmarks call it: by the version that is chosen."""
    names = {op for op in OPERATIONS if operation.startswith(f"{op}_")}
    problems = [each for op in names for each in OPERATIONS[op](batch)]
    fitting = [each for each in problems if operation in (f"{each.name}_{each.pass_name}", f"{each.name}_bias")]
    if not fitting:
        _unknown("operation", operation, [*CONVOLUTIONS, *(f"{op}_PASS" for op in OPERATIONS)])
    of_layer = [each for each in fitting if layer in (None, each.layer)]
    if not of_layer:
        _unknown("layer", str(layer), [str(each.layer) for each in fitting])
    chosen = of_layer[0]
    title = ", ".join(str(part) for part in (operation, chosen.layer, chosen.variant, f"batch {batch}") if part)
    return title, [Version("chosen", "fp32", True, lambda: chosen.ours(select("emulated")).run(), chosen.work)]


def _zeros(sizes: Conv2dSizes, epilogue: str, dtype: Any) -> dict[str, Any]:
    y = sizes.y(epilogue)
    return {
        "x": np.zeros(sizes.x, dtype),
        "weight": np.zeros(sizes.weight, dtype),
        "bias": np.zeros((sizes.K, sizes.P, sizes.Q), np.float32),
        "gradient": np.zeros(y, dtype),
        "saved": {"plain": None, "relu": np.zeros(y, dtype), "pool": np.zeros(y, np.uint8)}[epilogue],
        "epilogue": epilogue,
        "sizes": sizes,
    }


def _unknown(what: str, got: str, expected: Sequence[str]) -> Any:
    raise InputError(f"{what} is {got!r}, expected {' or '.join(expected)}")


def _report(title: str, found: list[Version], gpu: Gpu, blocks: int) -> list[tuple[Version, list[Launch]]]:
    """Trace, look and print, version by version."""
    print(title)
    try:
        disassembly.require()
        without = None
    except InputError as error:
        without = str(error)
        print(f"No machine code, and so no prediction: {without}")
    reports = []
    for version in found:
        try:
            traces = trace(version, blocks)
        except InputError as error:
            print(f"\n{version.name}: not for these sizes: {error}")
            continue
        launches = [Launch(each, None, None) if without else look(each, gpu) for each in traces]
        _print_version(version, launches, gpu)
        reports.append((version, launches))
    if not without:
        _print_summary(reports, gpu)
    return reports


def _print_version(version: Version, launches: list[Launch], gpu: Gpu) -> None:
    print(f"\n== {version.name}")
    for launch in launches:
        trace, code, prediction = launch.trace, launch.code, launch.prediction
        geometry = trace.geometry
        tile = f"<{', '.join(map(str, trace.kernel.tile))}>" if trace.kernel.tile else ""
        print(f"\n{trace.kernel.name}{tile}")
        print(
            f"  {extents(geometry.grid)} blocks of {extents(geometry.block)} threads, {geometry.shared} bytes of "
            f"dynamic shared memory; {trace.blocks} blocks traced, {trace.barriers / trace.blocks:.0f} barriers a block"
        )
        if code and prediction:
            print(f"  {_code(code)}")
            print(f"  {_residency(launch, gpu)}")
            if code.loop:
                print(f"  hottest loop: {_loop(code)}")
        rows = [_line(access, trace) for access in _merged(trace.accesses)]
        print_table(rows, list(rows[0]) if rows else [])
        if prediction:
            print(f"  PREDICTED on {gpu.name}, not measured: {prediction.total:.1f} µs, bound by {prediction.binding}")
            ordered = sorted(prediction.microseconds.items(), key=lambda pair: -pair[1])
            print(f"    {', '.join(f'{name} {value:.1f}' for name, value in ordered if value)}")


def _print_summary(reports: list[tuple[Version, list[Launch]]], gpu: Gpu) -> None:
    rows = []
    for version, launches in reports:
        predictions = [each.prediction for each in launches if each.prediction]
        total = sum(each.total for each in predictions)
        longest = max(predictions, key=lambda each: each.total)
        above = {space: sum(each.trace.total("excess", space) for each in launches) for space in ("global", "shared")}
        rows.append(
            {
                "version": version.name,
                "chosen": "yes" if version.chosen else "",
                "PREDICTED us": total,
                "TFLOP/s": version.work.flops / total / 1e6,
                "bound by": longest.binding,
                "blocks/SM": longest.resident,
                "balance": longest.balance,
                "excess sectors": above["global"],
                "bank conflicts": above["shared"],
            }
        )
    print(f"\nSummary, PREDICTED on {gpu.name}, nothing measured")
    if rows:
        print_table(rows, list(rows[0]))


def _merged(accesses: Sequence[Access]) -> Iterator[Access]:
    """One for those that are shown by the same lines."""
    groups: dict[tuple[Any, ...], list[Access]] = {}
    for access in accesses:
        key = lines_of(access), access.argument, access.kind, access.width
        groups.setdefault(key, []).append(access)
    for group in groups.values():
        counts = ("requests", "lanes", "bytes", "cost", "ideal")
        yield replace(group[0], **{name: sum(getattr(each, name) for each in group) for name in counts})


def _line(access: Access, trace: LaunchTrace) -> dict[str, Any]:
    """A row of the table of a launch; all but the ratios a block."""
    return {
        "line": lines_of(access),
        "memory": "shared" if access.argument is None else f"argument {access.argument}",
        "what": access.kind,
        "bytes": access.width,
        "requests": round(access.requests / trace.blocks),
        "lanes": f"{access.lanes / access.requests:.1f}",
        "unit": "sectors" if access.argument is not None else "wavefronts",
        "cost": round(access.cost / trace.blocks),
        "ideal": round(access.ideal / trace.blocks),
        "excess": f"{access.cost / access.ideal - 1:.0%}" if access.excess else "",
        "KiB": f"{access.bytes / trace.blocks / 1024:.1f}",
    }


def _code(code: Code) -> str:
    memory = ", ".join(f"{count} {name}" for name, count in sorted(code.memory.items()))
    arithmetic = ", ".join(f"{count} {name}" for name, count in code.arithmetic.items()) or "no multiply-adds"
    return (
        f"{code.registers} registers, {code.shared} bytes of static shared memory, {code.spills} of spills; "
        f"{code.instructions} instructions: {arithmetic}, {memory}"
    )


def _residency(launch: Launch, gpu: Gpu) -> str:
    trace, prediction = launch.trace, launch.prediction
    assert prediction is not None
    warps = prediction.resident * -(-math.prod(trace.geometry.block) // 32)
    return (
        f"{prediction.resident} blocks ({warps} warps) a multiprocessor, limited by {prediction.limit}; "
        f"{math.prod(trace.geometry.grid)} blocks on {gpu.multiprocessors}: at most {prediction.busiest} each, "
        f"balance {prediction.balance:.2f}"
    )


def _loop(code: Code) -> str:
    loop = code.loop
    assert loop is not None
    counts = {name: loop.count(*members) for name, members in _MIX.items()}
    other = loop.instructions - sum(counts.values())
    mix = ", ".join(f"{name} {count}" for name, count in (*counts.items(), ("other", other)) if count)
    loads = counts["LDS"] + counts["LDG"]
    share = f"{loop.arithmetic / loop.instructions:.0%} arithmetic"
    ratio = f", {loop.arithmetic / loads:.1f} a load" if loads else ""
    return f"{loop.instructions} instructions ({mix}), {share}{ratio}; one warp alone needs {loop.stall} cycles a turn"


def _row(launch: Launch) -> dict[str, Any]:
    """A launch as JSON has it."""
    trace, prediction = launch.trace, launch.prediction
    return {
        "kernel": trace.kernel.name,
        "tile": trace.kernel.tile,
        **asdict(trace.geometry),
        "blocks_traced": trace.blocks,
        "barriers": trace.barriers,
        "multiply_adds": trace.multiply_adds,
        "calls": trace.calls,
        "loaded_sectors": trace.loaded_sectors,
        "stored_sectors": trace.stored_sectors,
        "accesses": [asdict(access) for access in trace.accesses],
        "code": asdict(launch.code) if launch.code else None,
        "predicted": asdict(prediction) | {"us": prediction.total, "binding": prediction.binding}
        if prediction
        else None,
    }


if __name__ == "__main__":
    call(main)
