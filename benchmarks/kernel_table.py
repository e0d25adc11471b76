"""The README's table of kernels and their proofs, from what the tests recorded.

make test-all                     records benchmarks/results/kernels_emulated.json
python -m benchmarks.gpu_check    on a GPU; with --unpack it writes kernels_cuda.json and gpu_check.json
python -m benchmarks.kernel_table writes the table into README.md, between its marks
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gzkern.runtime import source

from .harness.report import rewrite

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
BEGIN, END = "<!-- kernel table -->", "<!-- end of kernel table -->"
SANITIZERS = {"asan": "ASan + UBSan", "tsan": "TSan"}


def main() -> int:
    """Rewrite the table in README.md; 2 if there is nothing to write it from."""
    emulated = _read(RESULTS / "kernels_emulated.json")
    reason = _unusable(emulated)
    if emulated is None or reason:
        print(f"benchmarks.kernel_table: {reason}; run make test-all", file=sys.stderr)
        return 2
    rewrite(ROOT / "README.md", BEGIN, END, render(emulated, _read(RESULTS / "kernels_cuda.json")))
    return 0


def render(emulated: dict[str, Any], cuda: dict[str, Any] | None) -> str:
    """The table and the line that says what it was measured with."""
    rows = emulated["rows"] + (cuda["rows"] if cuda else [])
    lines = [
        "| kernel | cpu | emulated | cuda | sanitizers (emulated) |",
        "|---|---|---|---|---|",
    ]
    for stem in source.stems():
        for kernel in source.load(stem).kernels:
            cpu = _error(_operation([r for r in rows if r["device"] == "cpu"], kernel))
            columns = [_error(_select(rows, kernel, device, "float64")) for device in ("emulated", "cuda")]
            cuda_column = columns[1] if cuda else "not run yet"
            lines.append(f"| `{kernel}` | {cpu} | {columns[0]} | {cuda_column} | {_sanitizers(rows, kernel)} |")
    lines += ["", _provenance(emulated, cuda)]
    return "\n".join(lines)


def _unusable(recorded: dict[str, Any] | None) -> str | None:
    """Why no table is made of this."""
    if recorded is None:
        return "nothing is recorded yet"
    if recorded["failed"]:
        return f"{recorded['failed']} tests failed when this was recorded"
    proved = {row["kernel"] for row in recorded["rows"] if row["proof"] == "float64"}
    lacking = {kernel for stem in source.stems() for kernel in source.load(stem).kernels} - proved
    return f"recorded without {', '.join(sorted(lacking))}" if lacking else None


def _select(rows: Sequence[dict[str, Any]], kernel: str, device: str, proof: str) -> list[dict[str, Any]]:
    return [r for r in rows if (r["device"], r["kernel"], r["proof"]) == (device, kernel, proof)]


def _operation(rows: Sequence[dict[str, Any]], kernel: str) -> list[dict[str, Any]]:
    """The rows of the operation that a kernel is a part of, such as "conv2d backward, no pool"."""
    names = {id(row): row["kernel"].partition(",")[0].replace(" ", "_") for row in rows}
    of_pass = [row for row in rows if kernel.startswith(names[id(row)])]
    of_operation = [row for row in rows if kernel.partition("_")[0] == names[id(row)].partition("_")[0]]
    return of_pass or of_operation  # one kernel may serve all passes


def _error(rows: Any) -> str:
    errors = [row["error"] for row in rows]
    if not errors:
        return "–"
    worst = max(errors)
    return "exact" if worst == 0 else f"{worst:.2f}"


def _sanitizers(rows: Sequence[dict[str, Any]], kernel: str) -> str:
    ran = {
        label: sum(row["runs"] for row in _select(rows, kernel, "emulated", proof))
        for proof, label in SANITIZERS.items()
    }
    return ", ".join(f"{label}: {count}" for label, count in ran.items() if count) or "–"


def _provenance(emulated: dict[str, Any], cuda: dict[str, Any] | None) -> str:
    where = f"cpu and emulated: {emulated['processor']}, g++ {emulated['gxx']}, {emulated['date'][:10]}."
    if cuda:
        check = _read(RESULTS / "gpu_check.json") or {"items": []}
        ran = {i["name"].removeprefix("sanitizer_"): i["status"] for i in check["items"] if "sanitizer" in i["name"]}
        sanitizers = ", ".join(f"{tool} {status}" for tool, status in ran.items()) or "not run"
        where += f" cuda: {cuda['gpu']}, driver {cuda['driver']}, {cuda['date'][:10]}; compute-sanitizer: {sanitizers}."
        return where
    return f"{where} cuda: not run yet; `python -m benchmarks.gpu_check --out DIR` runs it."


def _read(path: Path) -> dict[str, Any] | None:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


if __name__ == "__main__":
    sys.exit(main())
