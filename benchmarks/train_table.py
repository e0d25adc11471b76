"""The README's tables of training and prediction on a GPU against PyTorch, from what benchmarks.train_step wrote.

python -m benchmarks.train_step --device cuda --baseline torch,torch.compile --json FILE    on a machine with a GPU
python -m benchmarks.train_table      writes the tables into README.md from benchmarks/results/train_step_cuda.json
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .harness.engines import LATE, PREDICT, STEP
from .harness.report import rewrite

ROOT = Path(__file__).parents[1]
RESULT = Path("benchmarks", "results", "train_step_cuda.json")
COMMAND = f"python -m benchmarks.train_step --device cuda --baseline torch,torch.compile --json {RESULT}"
BEGIN, END = "<!-- train table -->", "<!-- end of train table -->"

_TABLES = {
    STEP: ("training step", "paper_run_minutes", "1,562,500 steps"),
    PREDICT: ("prediction", "submission_minutes", "17 networks × 60 views × 79,975 images"),
}
"""Title, key of the minutes, and of what they are."""

_FORMS = {
    "eager": ("torch",),
    "channels-last": ("torch channels-last",),
    "compiled": ("torch compiled", "torch max-autotune"),
    "CUDA graph": ("torch graph", "torch channels-last graph", "torch bf16 weights graph"),
}
"""Engines of PyTorch by column, which has the fastest."""


def main() -> int:
    """Rewrite the tables in README.md; 1 if an engine of ours failed."""
    path = ROOT / RESULT
    measured = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
    failures = [row["failed"] for row in _ours(measured) if row["failed"] not in (None, LATE)]
    if failures:
        print(f"benchmarks.train_table: {RESULT}: {failures[0]}", file=sys.stderr)
        return 1
    rewrite(ROOT / "README.md", BEGIN, END, render(measured))
    return 0


def render(measured: dict[str, Any] | None) -> str:
    """A table a pass, with a line a precision and batch; and what they were measured with."""
    ours = [row for row in _ours(measured) if row["ms"]]
    if not measured or not ours:
        return f"Not measured; `{COMMAND}` does it."
    lines = []
    for what, (title, minutes, job) in _TABLES.items():
        head = (title, "batch", "ms (20–80 %)", "images/s", job, "of the floor", *_FORMS, "ratio")
        lines += [
            _cells(*head),
            "|---" * len(head) + "|",
            *(_line(row, minutes, measured["rows"]) for row in ours if row["name"] == what),
            "",
        ]
    return "\n".join([*lines, _provenance(measured, ours[0])])


def _ours(measured: dict[str, Any] | None) -> list[dict[str, Any]]:
    return [row for row in measured["rows"] if row["engine"] == "gzkern"] if measured else []


def _line(row: dict[str, Any], minutes: str, rows: Sequence[dict[str, Any]]) -> str:
    alike = [other for other in rows if all(other[key] == row[key] for key in ("name", "precision", "batch"))]
    rivals = [
        min((other["ms"] for other in alike if other["engine"] in names and other["ms"]), default=None)
        for names in _FORMS.values()
    ]
    return _cells(
        row["precision"],
        row["batch"],
        f"{row['ms']:.3g} ({row['ms_p20']:.3g}–{row['ms_p80']:.3g})",
        f"{row['images_per_s']:,.0f}",
        f"{row[minutes]:,.1f} min" if row[minutes] else "–",
        f"{row['floor_percent']:.0f} %" if row["floor_percent"] else "–",
        *(f"{ms:.3g}" if ms else "–" for ms in rivals),
        f"{row['ratio']:.2f}" if row["ratio"] else "–",
    )


def _cells(*cells: Any) -> str:
    return f"| {' | '.join(map(str, cells))} |"


def _provenance(measured: dict[str, Any], row: dict[str, Any]) -> str:
    torch = next((r["engine_version"] for r in measured["rows"] if r["engine"].startswith("torch")), None)
    where = f"{measured.get('gpu')}, driver {measured.get('driver')}, {measured['date'][:10]}"
    return (
        f"{where}: medians of {row['repeats']} samples in turns, each of 50 ms or more. After the floor PyTorch "
        f"{torch}, in ms, of its graphs the fastest; the ratio is that of its best time to ours."
    )


if __name__ == "__main__":
    sys.exit(main())
