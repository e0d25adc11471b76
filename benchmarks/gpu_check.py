"""Everything that needs a real GPU, in one command: correctness first, then the kernels' speed, then the rest.

python -m benchmarks.gpu_check --out DIR --minutes M

Most telling first; DIR/gpu_check.json is written after every item, so that a check that is cut off keeps what it has,
and the same command goes on with what is left. It needs Python, NumPy, CuPy, Pillow and pytest alone; what needs more
says so and is left out.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.report import machine
from gzkern.cuda.device import missing
from gzkern.files import write_atomically

ROOT = Path(__file__).parents[1]
SANITIZERS = ("memcheck", "racecheck", "initcheck", "synccheck")
_TAIL = 4000  # characters of an item's output that are kept


@dataclass(frozen=True)
class Item:
    """One command; ``needs`` says in a sentence what the machine lacks for it, None if nothing."""

    name: str
    command: tuple[str, ...]
    needs: str | None = None


def items(out: Path, minutes: float) -> Iterator[Item]:
    """The whole check, most telling first; the benchmarks of kernels end themselves, after shares of the minutes."""
    python = sys.executable

    def tests(name: str, *selection: str) -> Item:
        record = (f"--record={out / name}.json",)
        return Item(name, (python, "-m", "pytest", "-m", "gpu", "-p", "no:cacheprovider", *selection, *record))

    def benchmark(name: str, share: float, *options: str, module: str = "") -> Item:
        limits = ("--minutes", f"{share * minutes:.3g}", "--json", str(out / f"{name}_cuda.json"))
        return Item(name, (python, "-m", f"benchmarks.{module or name}", "--device", "cuda", *options, *limits))

    yield Item("info", (python, "-m", "gzkern", "info", "--json"))
    yield Item("warmup", (python, "-m", "gzkern", "warmup", "--device", "cuda"))
    yield tests("kernels", "tests/kernels")
    whole = ("test_golden_run", "test_kernel_devices", "test_cuda_device", "test_graph")
    yield tests("network", *(f"tests/{name}.py" for name in whole))
    step = ("--precision", "tf32,fp32,bf16", "--batch", "16,256")
    yield benchmark("train_step_alone", 0.1, *step, module="train_step")
    yield benchmark("train_step", 0.25, *step, "--baseline", "torch")  # torch.compile takes minutes
    rows = ("--config", "paper", "--batch", "4", "--json", str(out / "precision_cuda.json"))
    lacking = _not_installed("safetensors", "tqdm")
    yield Item("precision", (python, "-m", "benchmarks.precision", "--device", "cuda", *rows), lacking)
    png = () if _not_installed("matplotlib") else ("--png", str(out / "conv_cuda.png"))
    yield benchmark("conv", 0.2, *png)
    yield benchmark("ops", 0.1)
    yield benchmark("tiles", 0.1, "--precision", "fp32,tf32", "--batch", "16,256")
    sanitizer = shutil.which("compute-sanitizer")
    lacking = None if sanitizer else "compute-sanitizer is not on the PATH; it comes with the CUDA toolkit"
    for tool in SANITIZERS:
        unset = ("--unset",) if tool == "initcheck" else ()
        run = (python, "tests/kernels/run_cases.py", "--device", "cuda", "--quick", *unset)
        command = ("compute-sanitizer", "--tool", tool, "--error-exitcode", "66", *run)
        yield Item(f"sanitizer_{tool}", command, lacking)


def _not_installed(*packages: str) -> str | None:
    lacking = [name for name in packages if importlib.util.find_spec(name) is None]
    return f"not installed: {', '.join(lacking)}" if lacking else None


def run_item(item: Item, seconds: float) -> dict[str, Any]:
    """Run one item for at most ``seconds``; what it said at its end, and how it ended."""
    if item.needs:
        return {"name": item.name, "status": "left out", "reason": item.needs}
    begin = time.monotonic()
    process = subprocess.Popen(
        item.command,
        cwd=ROOT,
        env={**os.environ, "GZKERN_REQUIRE": "gpu"},
        text=True,
        errors="replace",
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,  # so that a sanitizer's child ends with it
    )
    try:
        output, _ = process.communicate(timeout=seconds)
        status = "passed" if process.returncode == 0 else "failed"
    except subprocess.TimeoutExpired:
        status = "cut off"
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    if status == "cut off":
        output, _ = process.communicate()
    return {
        "name": item.name,
        "status": status,
        "seconds": round(time.monotonic() - begin, 1),
        "command": list(item.command),
        "output": output if item.name == "info" else output[-_TAIL:],
    }


def main(arguments: list[str] | None = None) -> int:
    """Run what is left of the check; 0 if all of it passed, 1 if not, 2 without a GPU."""
    options = _parse(arguments)
    reason = missing()
    if reason:
        print(f"benchmarks.gpu_check: {reason}", file=sys.stderr)
        return 2
    out = options.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    path = out / "gpu_check.json"
    identity = {**machine(), "sources": _sources()}
    earlier = _earlier(path, identity["sources"])
    deadline = time.monotonic() + 60 * options.minutes
    results: list[dict[str, Any]] = []
    for item in items(out, options.minutes):
        result = earlier.get(item.name)
        left = deadline - time.monotonic()
        if result is None and left > 0:
            print(f"{item.name} …", flush=True)
            result = run_item(item, left)
            print(f"{item.name}: {result['status']} {result.get('reason', '')}", flush=True)
        results.append(result or {"name": item.name, "status": "no time left"})
        document = {**identity, "items": results}
        write_atomically(path, (json.dumps(document, indent=1) + "\n").encode())
    unfinished = [r["name"] for r in results if r["status"] != "passed"]
    print(f"wrote {path}" + (f"; not passed: {', '.join(unfinished)}" if unfinished else ""))
    return 1 if unfinished else 0


def _sources() -> str:
    """A digest of all that the items run."""
    digest = hashlib.sha256()
    for folder in ("gzkern", "kernels", "tests", "benchmarks"):
        for file in sorted((ROOT / folder).rglob("*")):
            if file.suffix in (".py", ".cu", ".cuh", ".toml", ".json") and "results" not in file.parts:
                digest.update(file.read_bytes())
    return digest.hexdigest()


def _earlier(path: Path, sources: str) -> dict[str, dict[str, Any]]:
    """The items that an earlier call brought to an end, with the same sources."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    if document.get("sources") != sources:
        return {}
    return {item["name"]: item for item in document["items"] if item["status"] in ("passed", "failed")}


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu_check", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", required=True, metavar="DIR", type=Path, help="results; the same DIR goes on")
    parser.add_argument("--minutes", type=float, default=30.0, metavar="M", help="stop after (default: %(default)g)")
    options = parser.parse_args(arguments)
    if options.minutes <= 0:
        parser.error(f"--minutes {options.minutes:g}: expected more than 0")
    if options.out.exists() and not options.out.is_dir():
        parser.error(f"--out {options.out}: is a file; expected a directory")
    return options


if __name__ == "__main__":
    sys.exit(main())
