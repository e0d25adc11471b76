"""The README's table of convolutions against cuDNN and PyTorch, from what benchmarks.conv wrote.

python -m benchmarks.conv --json benchmarks/results/conv_cuda.json    on a machine with a GPU
python -m benchmarks.conv_table                                       writes the table into README.md, between its marks
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from .harness.report import rewrite

ROOT = Path(__file__).parents[1]
RESULT = Path("benchmarks", "results", "conv_cuda.json")
COMMAND = f"python -m benchmarks.conv --json {RESULT}"
BEGIN, END = "<!-- conv table -->", "<!-- end of conv table -->"


def main() -> int:
    """Rewrite the table in README.md; 1 if what was measured must not be believed."""
    path = ROOT / RESULT
    measured = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
    doubts = [row["error"] for row in measured["rows"] if row["error"]] if measured else []
    if doubts:
        print(f"benchmarks.conv_table: {RESULT}: {doubts[0]}", file=sys.stderr)
        return 1
    rewrite(ROOT / "README.md", BEGIN, END, render(measured))
    return 0


def render(measured: dict[str, Any] | None) -> str:
    """The table of rows with cold caches, fastest baseline a row, and what they were measured with."""
    rows = [row for row in measured["rows"] if row["ms"] and row["l2"] == "cold"] if measured else []
    if not measured or not rows:
        return f"Not measured; `{COMMAND}` does it on a machine with a GPU."
    lines = [
        "| layer | pass | form | precision | batch | ms (20–80 %) | TFLOP/s | % of peak | baseline | its ms | ratio |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    places: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in rows:
        key = tuple(row[name] for name in ("layer", "pass", "variant", "precision", "batch"))
        places.setdefault(key, []).append(row)
    for key, alike in places.items():
        row = min(alike, key=lambda row: row["baseline_ms"] or float("inf"))
        spread = f"{row['ms']:.3g} ({row['ms_p20']:.3g}–{row['ms_p80']:.3g})"
        percent = f"{row['peak_percent']:.0f}" if row["peak_percent"] else "–"
        against = "– | – | –"
        if row["ratio"]:
            against = f"{row['baseline']}: {row['plan']} | {row['baseline_ms']:.3g} | {row['ratio']:.2f}"
        lines.append(f"| {' | '.join(map(str, key))} | {spread} | {row['tflops']:.3g} | {percent} | {against} |")
    where = f"{rows[0]['device']}, driver {measured.get('driver')}, {measured['date'][:10]}"
    verdict = max(row["verified"]["error_over_bound"] for row in rows)
    lines += ["", f"{where}: medians of {rows[0]['samples']} samples in turns, cold caches; a ratio above 1 is a "
              f"slower baseline. Results checked against float64, worst error {verdict:.2f} of the bound."]  # fmt: skip
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
