"""A roofline: every row by the operations a byte that it does, and a second, under what its device can do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .peaks import Peaks
from .problems.layers import LAYERS

_COLOURS = dict(zip(LAYERS, ("#1f77b4", "#d62728", "#2ca02c", "#9467bd"), strict=True))
_MARKERS = {"forward": "o", "backward_data": "s", "backward_weights": "^"}
_SMALL, _LARGE = 14, 45  # markers of convolutions alone, and as the network has them


def draw(rows: Sequence[dict[str, Any]], peaks: Peaks, path: str) -> None:
    """Write a PNG of the rows with cold caches, a panel a precision; at least one is measured."""
    from matplotlib.figure import Figure

    measured = [row for row in rows if row["l2"] == "cold" and row["ms"]]
    precisions = list(dict.fromkeys(row["precision"] for row in measured)) or ["nothing measured"]
    figure = Figure(figsize=(2.5 + 4.5 * len(precisions), 5.5), layout="constrained")
    panels = figure.subplots(1, len(precisions), squeeze=False, sharex=True, sharey=True)[0]
    for axes, precision in zip(panels, precisions, strict=True):
        axes.set(xscale="log", yscale="log", title=precision, xlabel="operations a byte moved (FLOP/B)")
        axes.grid(which="major", color="0.9")
        some = [row for row in measured if row["precision"] == precision]
        _ceilings(axes, peaks.tflops.get(precision), peaks.gb_s, [row["flops"] / row["bytes"] for row in some])
        for row in some:
            _mark(axes, row)
    panels[0].set_ylabel("TFLOP/s")
    low, high = panels[0].get_xlim()
    middle, decades = (low * high) ** 0.5, max(high / low, 10.0) ** 0.5
    panels[0].set_xlim(middle / decades, middle * decades)  # a decade at least, for labels that can be read
    figure.legend(handles=_legend(), loc="outside right center", fontsize=8)
    figure.suptitle(f"Convolutions on {rows[0]['device'] if rows else 'no device'}, cold caches")
    figure.savefig(path, dpi=120)


def _mark(axes: Any, row: dict[str, Any]) -> None:
    """Ours, filled, and the baseline, hollow."""
    intensity, colour = row["flops"] / row["bytes"], _COLOURS[row["layer"]]
    style = {
        "s": _SMALL if row["variant"] == "plain" else _LARGE,
        "marker": _MARKERS[row["pass"]],
        "edgecolors": colour,
    }
    axes.scatter(intensity, row["tflops"], facecolors=colour, zorder=3, **style)
    if row["baseline_ms"]:
        axes.scatter(intensity, row["flops"] / row["baseline_ms"] / 1e9, facecolors="none", zorder=2, **style)


def _ceilings(axes: Any, tflops: float | None, gb_s: float | None, intensities: Sequence[float]) -> None:
    """Memory's slope and the processors' level."""
    if not tflops or not gb_s:
        return
    ridge = 1e3 * tflops / gb_s
    ends = min([ridge / 4, *intensities]) / 1.5, max([ridge * 2, *intensities]) * 1.5
    axes.plot([ends[0], ridge, ends[1]], [ends[0] * gb_s / 1e3, tflops, tflops], color="0.2", linewidth=1, zorder=1)
    axes.annotate(f"{tflops:.0f} TFLOP/s, {gb_s:.0f} GB/s", (ends[1], tflops), ha="right", va="bottom", fontsize=8,
                  xytext=(0, 2), textcoords="offset points")  # fmt: skip


def _legend() -> list[Any]:
    from matplotlib.lines import Line2D

    def entry(label: str, marker: str = "o", colour: str = "0.3", size: int = _LARGE, **style: Any) -> Any:
        return Line2D([], [], linestyle="", label=label, marker=marker, color=colour, markersize=size**0.5, **style)

    return [
        *(entry(layer, colour=colour) for layer, colour in _COLOURS.items()),
        *(entry(name.replace("_", " "), marker) for name, marker in _MARKERS.items()),
        entry("alone", size=_SMALL),
        entry("fastest plan of a baseline", markerfacecolor="none"),
    ]
