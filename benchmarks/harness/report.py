"""What every benchmark does with its measurements: medians, a table, JSON with the machine and the command."""

from __future__ import annotations

import json
import os
import shlex
import statistics
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from gzkern.core import environment
from gzkern.core.files import write_atomically

from .command import module_name


def spread(seconds: Sequence[float]) -> dict[str, float]:
    """Median, 20th and 80th percentile in ms."""
    ordered = sorted(seconds)

    def percentile(part: float) -> float:
        return round(1e3 * ordered[min(len(ordered) - 1, int(part * len(ordered)))], 6)

    return {"ms": round(1e3 * statistics.median(ordered), 6), "ms_p20": percentile(0.2), "ms_p80": percentile(0.8)}


def print_table(rows: Sequence[dict[str, Any]], columns: Sequence[str]) -> None:
    """A plain table of some keys of the rows."""
    cells = [list(columns)] + [[_text(row.get(column)) for column in columns] for row in rows]
    widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]
    for line in cells:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def write_json(path: str | Path, rows: Sequence[dict[str, Any]], facts: dict[str, Any]) -> None:
    """The rows so far, whole or not at all, with when, where and by which command, and ``facts`` of the device."""
    document = {**machine(), **facts, "rows": list(rows)}
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, (json.dumps(document, indent=1) + "\n").encode())


def rewrite(path: Path, begin: str, end: str, text: str) -> None:
    """Replace what stands between two marks of a file."""
    before, _, rest = path.read_text(encoding="utf-8").partition(begin)
    _, _, after = rest.partition(end)
    path.write_text(f"{before}{begin}\n{text}\n{end}{after}", encoding="utf-8")


def machine() -> dict[str, Any]:
    """When, where and by which command something is measured."""
    program = Path(sys.argv[0])
    module = module_name(program) if "benchmarks" in program.parts[-3:-1] else "pytest"
    return {
        "command": shlex.join(["python", "-m", module, *sys.argv[1:]]),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "cores": os.cpu_count(),
        **{key: value for key, value in environment.describe().items() if key != "command"},
    }


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.2f}" if abs(value) >= 1 else f"{value:.3g}"
    return "–" if value is None else str(value)


def _commit() -> str | None:
    git = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    try:
        return subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
