"""The plan of the check: its items, in which order, and how long each may take.

Four stages, the most telling first, so that a check that ends early has what matters most:

compile    every kernel, and every tile of the published network, a process a core
correct    the kernels that the network runs, tensor-core fragments, a short training, the graph: against float64
speed      the training step and prediction, ours alone first, then against PyTorch
rest       convolutions against cuDNN, ceilings, tiles, all proofs, sanitizers: they share the time that is left
"""

from __future__ import annotations

import importlib.util
import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

BUDGET = "{budget}"
"""In a command: the minutes after which it begins nothing new and writes what it has; seconds for ``--stop-after``."""

RESULT = "{result}"
"""In a command: the JSON file that it writes."""

PART = 0.8
"""An item's budget, as a part of its limit, so that it ends by itself."""

SANITIZERS = ("memcheck", "racecheck", "initcheck", "synccheck")
_PYTHON = (sys.executable, "-m")
_BUDGET = ("--minutes", BUDGET)


@dataclass(frozen=True)
class Item:
    """One command of the check, run in a process of its own.

    Attributes:
        name: of the item, once in the plan.
        command: with the places BUDGET and RESULT.
        expected: seconds that it is PREDICTED to take on an H200 beside 16 cores.
        limit: seconds after which it is killed.
        share: of the time that is left when the item begins, beside the shares of the items after it; then ``limit`` is
            the least that is worth beginning with.
        needs: packages and programs without which it is left out.
    """

    name: str
    command: tuple[str, ...]
    expected: float
    limit: float
    share: float = 0.0
    needs: tuple[str, ...] = ()

    def arguments(self, seconds: float, result: Path) -> list[str]:
        """Return the command for a limit of so many seconds, with a file for its results."""
        budget = PART * seconds / (1 if "--stop-after" in self.command else 60)
        return [each.replace(BUDGET, f"{budget:.4g}").replace(RESULT, str(result)) for each in self.command]

    def predicted(self, limit: float) -> float:
        """Return the seconds that the item is PREDICTED to take within a limit."""
        ends_itself = any(BUDGET in each for each in self.command)
        return min(self.expected, PART * limit) if ends_itself else self.expected

    def missing(self) -> str | None:
        """Say what this machine lacks for the item; None if nothing."""
        lacking = [need for need in self.needs if not (importlib.util.find_spec(need) or shutil.which(need))]
        return f"not installed: {', '.join(lacking)}" if lacking else None


@dataclass(frozen=True)
class Stage:
    """Items with one purpose.

    Attributes:
        name: of the stage.
        seconds: that all of it may take.
        together: run all items at once, since none is timed; else one after the other.
        items: most telling first.
    """

    name: str
    seconds: float
    together: bool
    items: tuple[Item, ...] = field(repr=False)


def stages(small: bool = False) -> tuple[Stage, ...]:
    """Return the whole check; with ``small`` a rehearsal of it, for a device that is emulated."""
    return (
        Stage("compile", 60, True, _compile(small)),
        Stage("correct", 120, True, _correct(small)),
        Stage("speed", 180, False, _speed(small)),
        Stage("rest", float("inf"), False, _rest(small)),
    )


def _compile(small: bool) -> tuple[Item, ...]:
    units = ("--precision", "fp32", "--batch", "2") if small else ("--precision", "all", "--batch", "16,256,960")
    return (
        Item("info", (*_PYTHON, "gzkern", "info", "--json"), 6, 30),
        Item("compile", (*_PYTHON, "gzkern", "warmup", "--device", "cuda", *units), 25, 60),
    )


def _correct(small: bool) -> tuple[Item, ...]:
    verify = ("--samples", "0", "--baseline", "", "--batch", "2" if small else "16")
    convolutions = (
        _benchmark(f"conv_{precision}", "conv", *verify, "--precision", precision, expected=25, limit=90)
        for precision in ("fp32", "tf32", "fp32x3", "bf16")
    )
    graph = ("tests/runtime/test_capture.py", "tests/training/test_feeds.py", "tests/runtime/test_gpu.py")
    return (
        _tests("fragments", "tests/kernels/test_kernels.py", "-k", "fragments", expected=12, limit=60),
        *convolutions,
        _benchmark("other_operations", "ops", *verify, expected=30, limit=110),
        _tests("golden_run", "tests/training/test_golden_run.py", expected=40, limit=90),
        Item("compile_cases", (sys.executable, "tests/kernels/compile_cases.py"), 35, 110, needs=("pytest",)),
        _tests("graph", *graph, expected=60, limit=115),
        _tests(
            "training",
            "tests/training/test_kernel_devices.py",
            expected=60,
            limit=115,
            needs=("tomli_w", "safetensors"),
        ),
    )


def _speed(small: bool) -> tuple[Item, ...]:
    sizes = ("--config", "laptop", "--batch", "2", "--repeats", "1") if small else ("--batch", "16", "--repeats", "7")
    passes = ("--predict-batch", "2" if small else "16")
    predict = ("--predict-only", "--predict-batch", "2" if small else "960,16")
    torch, compiled = ("--baseline", "torch"), ("--baseline", "torch.compile")  # of which each may take minutes

    def step(name: str, precisions: str, *options: str, expected: float, limit: float) -> Item:
        needs = ("torch",) if "--baseline" in options else ()
        chosen = ("--precision", "fp32" if small else precisions, *sizes, *options, *_BUDGET)
        return _benchmark(name, "train_step", *chosen, expected=expected, limit=limit, needs=needs)

    return (
        step("step", "fp32,tf32", *passes, expected=30, limit=45),
        step("prediction", "fp32,bf16", *predict, expected=25, limit=40),
        step("step_against_torch", "fp32,tf32", *passes, *torch, expected=60, limit=70),
        step("tf32_against_torch_compile", "tf32", *passes, *compiled, expected=30, limit=40),
        step("fp32_against_torch_compile", "fp32", *passes, *compiled, expected=30, limit=40),
    )


def _rest(small: bool) -> tuple[Item, ...]:
    sizes = ("--batch", "2", "--samples", "1") if small else ("--batch", "16,256", "--samples", "30")
    one_batch = ("--batch", "2" if small else "16", "--samples", "1" if small else "30")
    little = ("--mib", "1", "--samples", "1") if small else ()
    network = ("--config", "laptop", "--batch", "2") if small else ("--config", "paper", "--batch", "4")
    tiles = ("--precision", "fp32,tf32", "--top", "1" if small else "2")
    return (
        _benchmark("conv", "conv", "--baseline", "cudnn,torch", *sizes, *_BUDGET, expected=60, limit=20, share=4),
        _benchmark("bandwidth", "bandwidth", *little, expected=8, limit=8, share=1),
        _benchmark("tiles", "tiles", *tiles, *one_batch, *_BUDGET, expected=45, limit=20, share=3),
        _benchmark("ops", "ops", *sizes, *_BUDGET, expected=30, limit=15, share=2),
        _benchmark(
            "precision", "studies.precision", *network, expected=30, limit=40, share=2, needs=("safetensors", "tqdm")
        ),
        _tests("kernels", "tests/kernels", "--stop-after", BUDGET, expected=70, limit=20, share=4),
        *(_sanitizer(tool) for tool in SANITIZERS),
    )


def _benchmark(name: str, module: str, *options: str, **times: Any) -> Item:
    device = () if module == "bandwidth" else ("--device", "cuda")
    return Item(name, (*_PYTHON, f"benchmarks.{module}", *device, *options, "--json", RESULT), **times)


def _tests(name: str, *selection: str, needs: tuple[str, ...] = (), **times: Any) -> Item:
    command = (*_PYTHON, "pytest", "-rs", "-m", "gpu", "-p", "no:cacheprovider", *selection, f"--record={RESULT}")
    return Item(name, command, needs=("pytest", *needs), **times)


def _sanitizer(tool: str) -> Item:
    unset = ("--unset",) if tool == "initcheck" else ()
    cases = (
        sys.executable,
        "tests/kernels/run_cases.py",
        "--device",
        "cuda",
        "--quick",
        *unset,
        "--stop-after",
        BUDGET,
    )
    command = ("compute-sanitizer", "--tool", tool, "--error-exitcode", "66", *cases)
    return Item(f"sanitizer_{tool}", command, 25, 15, share=1, needs=("compute-sanitizer",))
