"""Timelines as a picture: a panel each, in it a lane a branch and a bar a launch."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any

from .schedule import KINDS, Bar, Timeline

_COLOURS = dict(zip(KINDS, ("#1f77b4", "#2f4b7c", "#d62728", "#e08214", "#2ca02c", "#7f7f7f"), strict=True))
_MAIN, _SIDE_STREAM, _HALF = 1.0, 0.0, 0.3  # heights of the lanes' middles, and half of a bar's
_TOP, _BOTTOM = 2.75, -1.4  # of a panel
_APART = 0.016  # of the width, at least between two names


def draw(timelines: Sequence[Timeline], times: str, path: str) -> None:
    """Write a PNG of 1200 pixels' width; ``times``: what the times are."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 0.7 + 3.4 * len(timelines)), layout="constrained")
    panels = figure.subplots(len(timelines), 1, squeeze=False, sharex=True)[:, 0]
    width = 1.2 * max(timeline.at_most for timeline in timelines)
    for axes, timeline in zip(panels, timelines, strict=True):
        axes.set(xlim=(0, width), ylim=(_BOTTOM, _TOP))
        axes.set_yticks([_MAIN, _SIDE_STREAM], ["main", "side stream"])
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_title(_title(timeline), fontsize=10, loc="left")
        for bar in timeline.bars:
            axes.barh(_lane(bar), bar.us, 2 * _HALF, bar.start, color=_COLOURS[bar.kind], linewidth=0)
        for side_stream, outward in ((False, 1.0), (True, -1.0)):
            _name(axes, [bar for bar in timeline.bars if bar.side_stream == side_stream], outward, _APART * width)
        _mark(axes, timeline)
    panels[-1].set_xlabel("µs")
    figure.suptitle(f"A training step; times {times}", fontsize=10)
    figure.legend(handles=_legend(), loc="outside lower center", ncols=len(_COLOURS), fontsize=8, frameon=False)
    figure.savefig(path, dpi=120)


def _title(timeline: Timeline) -> str:
    taken = ", as in training" if timeline.taken else ""
    return (
        f"{timeline.precision}, batch {timeline.batch}, dense weights updated: {timeline.update}{taken}: "
        f"{len(timeline.bars)} launches"
    )


def _lane(bar: Bar) -> float:
    return _SIDE_STREAM if bar.side_stream else _MAIN


def _name(axes: Any, bars: Sequence[Bar], outward: float, apart: float) -> None:
    """The operations of a lane on its outer side, moved to the right where they would lie on each other."""
    last = -apart
    for operation, group in groupby(bars, key=lambda bar: bar.operation):
        some = list(group)
        middle, edge = (some[0].start + some[-1].end) / 2, _lane(some[0]) + outward * _HALF
        last, end = max(middle, last + apart), edge + outward * 0.15
        axes.plot([middle, last], [edge, end], color="0.5", linewidth=0.5)
        where = {"rotation": outward * 50, "rotation_mode": "anchor", "va": "center"}
        axes.text(last, end + outward * 0.05, operation, fontsize=7, **where)


def _mark(axes: Any, timeline: Timeline) -> None:
    """The totals, and the floor."""
    lines = [(timeline.at_least, "at least", "0.1", "-"), (timeline.at_most, "at most", "0.4", "--")]
    if timeline.at_least == timeline.at_most:
        lines = [(timeline.at_most, "in all", "0.1", "-")]
    if timeline.floor_us:
        lines.append((timeline.floor_us, "floor", "#9467bd", ":"))
    if timeline.step_us:
        lines.append((timeline.step_us, "whole step", "#d62728", "-"))
    for row, (us, what, colour, style) in enumerate(lines):
        axes.vlines(us, _BOTTOM, _MAIN + _HALF, color=colour, linestyle=style, linewidth=1)
        words = {"transform": axes.transAxes, "ha": "right", "color": colour, "fontsize": 9}
        axes.text(1, 0.6 - 0.1 * row, f"{what} {us:.0f} µs", **words)


def _legend() -> list[Any]:
    from matplotlib.patches import Patch

    return [Patch(color=colour, label=kind) for kind, colour in _COLOURS.items()]
