"""The tables of docs/data.md on the speed of augmentation, from what benchmarks.augment wrote.

python -m benchmarks.augment --baseline skimage,opencv,scipy,torch --json benchmarks/results/augment_cpu.json
python -m benchmarks.augment_table      writes the tables into docs/data.md, between their marks
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .harness.report import rewrite

ROOT = Path(__file__).parents[1]
RESULT = ROOT / "benchmarks" / "results" / "augment_cpu.json"
BEGIN, END = "<!-- augment table -->", "<!-- end of augment table -->"


def main() -> int:
    """Rewrite the tables."""
    rewrite(ROOT / "docs" / "data.md", BEGIN, END, render(json.loads(RESULT.read_text(encoding="utf-8"))))
    return 0


def render(measured: dict[str, Any]) -> str:
    """Engines by number of threads, then the ways from files to batches."""
    rows = measured["rows"]
    warps = [row for row in rows if row["name"] == "warp"]
    ways = [row for row in rows if row["name"] != "warp"]
    threads = list(dict.fromkeys(row["threads"] for row in warps))
    speeds = {
        (engine, row["threads"]): row[key]
        for row in warps
        for engine, key in (("gzkern", "images_per_s"), (row["baseline"], "baseline_images_per_s"))
    }
    errors = {"gzkern": warps[0]["error"], **{row["baseline"]: row["baseline_error"] for row in warps}}
    lines = [
        _cells("warp, images/s", *(f"{count} thread{'s' * (count > 1)}" for count in threads), "largest error"),
        "|---" * (len(threads) + 2) + "|",
        *(
            _cells(engine, *(f"{speeds[engine, count]:,.0f}" for count in threads), f"{error:.1e}")
            for engine, error in errors.items()
            if engine
        ),
        "",
        _cells("through the pool, images/s", *(f"--workers {count}" for count in threads)),
        "|---" * (len(threads) + 1) + "|",
    ]
    for name in dict.fromkeys(row["name"] for row in ways if row["name"].endswith("to batches")):
        by_threads = {row["threads"]: row["images_per_s"] for row in ways if row["name"] == name}
        lines.append(_cells(name.removesuffix(" to batches"), *(f"{by_threads[count]:,.0f}" for count in threads)))
    ours = warps[0]
    overhead = next(row["overhead_percent"] for row in ways if "overhead_percent" in row)
    share = 100 * ours["memory_share"]
    lines += [
        "",
        f"One thread: {ours['ns_a_sample']:.1f} ns a sample of three channels; {share:.0f} % of the "
        f"{measured['bandwidth_gb_s']:.1f} GB/s that the machine copies, if each row that is sampled is read once; the "
        f"pool takes {overhead:.1f} % more than the bare warp. Medians of {ours['samples']}, engines in turns, on "
        f"images that lie in no cache; the error is that of white noise, against float64. {measured['processor']}, "
        f"{measured['cores']} cores, {measured['date'][:10]}; `{measured['command']}`.",
    ]
    return "\n".join(lines)


def _cells(*values: str) -> str:
    return "| " + " | ".join(values) + " |"


if __name__ == "__main__":
    raise SystemExit(main())
