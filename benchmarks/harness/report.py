"""Measurements written down: medians, a printed table, JSON with the machine and the command."""

from __future__ import annotations

import json
import os
import shlex
import statistics
import subprocess
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from gzkern.core import environment
from gzkern.core.files import write_atomically

from .command import module_name

RESULTS = Path(__file__).parents[1] / "results"
"""Folder of the recorded measurements."""

LATE = "no time left"
"""Reason why a row was not measured that is no failure."""


def spread(seconds: Sequence[float]) -> dict[str, float]:
    """Return median, 20th and 80th percentile in ms."""
    ordered = sorted(seconds)

    def percentile(part: float) -> float:
        return round(1e3 * ordered[min(len(ordered) - 1, int(part * len(ordered)))], 6)

    return {"ms": round(1e3 * statistics.median(ordered), 6), "ms_p20": percentile(0.2), "ms_p80": percentile(0.8)}


def print_table(rows: Sequence[dict[str, Any]], columns: Sequence[str]) -> None:
    """Print some keys of the rows as a plain table."""
    cells = [list(columns)] + [[_text(row.get(column)) for column in columns] for row in rows]
    widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]
    for line in cells:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def markdown_table(columns: Sequence[Any], rows: Iterable[Sequence[Any]]) -> list[str]:
    """Return the lines of a table in Markdown."""
    lines = [f"| {' | '.join(map(str, cells))} |" for cells in (columns, *rows)]
    return [lines[0], "|---" * len(columns) + "|", *lines[1:]]


def write_rows(path: str | Path, rows: Sequence[dict[str, Any]], facts: dict[str, Any]) -> None:
    """Write the rows so far, whole or not at all, with date, machine and command, and ``facts`` of the device."""
    write_json(path, {**machine(), **facts, "rows": list(rows)})


def write_json(path: str | Path, document: dict[str, Any]) -> None:
    """Write a document, whole or not at all; its folder is made."""
    _write(path, json.dumps(document, indent=1))


def write_lines(path: str | Path, head: dict[str, Any], rows: Iterable[Any]) -> None:
    """Write a document with a line a row, which shows in a diff what changed."""
    lines = ",\n".join(f"  {json.dumps(row)}" for row in rows)
    _write(path, f'{{\n {json.dumps(head)[1:-1]},\n "rows": [\n{lines}\n ]\n}}')


def read_json(path: Path) -> dict[str, Any] | None:
    """Read a document; None where there is no such file."""
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def machine() -> dict[str, Any]:
    """Return date, command and machine of a measurement."""
    return {
        "command": shlex.join(["python", "-m", module_name(), *sys.argv[1:]]),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "cores": os.cpu_count(),
        **{key: value for key, value in environment.describe().items() if key != "command"},
    }


def _write(path: str | Path, text: str) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, f"{text}\n".encode())


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
