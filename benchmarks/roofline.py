"""A roofline: every row by the operations a byte that it does, and a second, under what its device can do."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from benchmarks.peaks import Peaks

_COLOURS = {"fp32": "#1f77b4", "tf32": "#d62728", "fp32x3": "#9467bd", "bf16": "#2ca02c"}
_MARKERS = {"forward": "o", "backward_data": "s", "backward_weights": "^"}


def draw(rows: Sequence[dict[str, Any]], peaks: Peaks, path: str) -> None:
    """Write a PNG of ours (filled) and the baselines (hollow), with cold caches; without matplotlib only say so."""
    try:
        from matplotlib.figure import Figure
        from matplotlib.lines import Line2D
    except ImportError:
        print('matplotlib is not installed, so that nothing is drawn; pip install "gzkern[bench]"', file=sys.stderr)
        return
    measured = [row for row in rows if row["l2"] == "cold" and row["ms"]]
    figure = Figure(figsize=(10, 6.5), layout="constrained")
    axes = figure.add_subplot(xscale="log", yscale="log")
    intensities = [row["flops"] / row["bytes"] for row in measured] or [1.0]
    left, right = min(intensities) / 2, max(intensities) * 2
    if peaks.gb_s:
        left = min(left, 1e3 * min((p for p in peaks.tflops.values() if p), default=1.0) / peaks.gb_s / 4)
    for precision, peak in peaks.tflops.items():
        if peak and peaks.gb_s:
            ridge = 1e3 * peak / peaks.gb_s
            across = [left, ridge, max(right, 2 * ridge)]
            heights = [left * peaks.gb_s / 1e3, peak, peak]
            axes.plot(across, heights, color=_COLOURS[precision], linewidth=1, zorder=1)
            axes.annotate(f"{precision} {peak:.0f} TFLOP/s", (across[-1], peak), ha="right", va="bottom", fontsize=8,
                          color=_COLOURS[precision], xytext=(0, 2), textcoords="offset points")  # fmt: skip
    for row in measured:
        intensity, colour, marker = row["flops"] / row["bytes"], _COLOURS[row["precision"]], _MARKERS[row["pass"]]
        axes.scatter(intensity, row["tflops"], s=30, marker=marker, color=colour, zorder=3)
        if row["baseline_ms"]:
            theirs = row["flops"] / row["baseline_ms"] / 1e9
            axes.scatter(intensity, theirs, s=30, marker=marker, facecolors="none", edgecolors=colour, zorder=2)
    for row in _one_a_place(measured):
        axes.annotate(f"{row['layer']} {row['form']} {row['batch']}", (row["flops"] / row["bytes"], row["tflops"]),
                      fontsize=6, xytext=(4, -3), textcoords="offset points", color="0.35")  # fmt: skip
    if not peaks.gb_s:
        axes.set_xlim(left, right)
    used = {row["precision"] for row in measured}
    legend = [Line2D([], [], color=c, marker="o", linestyle="", label=p) for p, c in _COLOURS.items() if p in used]
    legend += [Line2D([], [], color="0.3", marker=m, linestyle="", label=p) for p, m in _MARKERS.items()]
    legend.append(Line2D([], [], color="0.3", marker="o", markerfacecolor="none", linestyle="", label="baseline"))
    axes.legend(handles=legend, fontsize=8, loc="best")
    axes.set(xlabel="operations a byte that must be moved (FLOP/B)", ylabel="TFLOP/s")
    axes.set_title(f"Convolutions on {rows[0]['device'] if rows else 'nothing'}, cold caches"
                   + ("" if measured else ": nothing measured"), fontsize=11)  # fmt: skip
    axes.grid(which="major", color="0.9")
    figure.savefig(path, dpi=150)


def _one_a_place(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows to name: of one problem with several baselines the first."""
    places = {(r["layer"], r["pass"], r["form"], r["precision"], r["batch"]): r for r in reversed(rows)}
    return list(places.values())
