"""Launches in time: their starts on the two branches of a step, and the least and longest time of the step."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

KINDS = {
    "convolution forward": ("conv2d_forward",),
    "convolution backward": ("conv2d_backward",),
    "update": ("dense_backward_update", "nesterov", "step_counter"),
    "dense": ("dense",),
    "augmentation": ("gather_batch", "warp", "viewpoints"),
    "rest": ("",),
}
"""Kinds of launches by how the names of their kernels begin; the first that fits."""


@dataclass(frozen=True)
class Bar:
    """A launch in time, in microseconds.

    Attributes:
        us: that it takes, without a gap before it.
        start: after the beginning of the step; see :func:`lay_out`.
        geometry: blocks and threads, in words.
        bound_by: the resource that takes the longest.
        bytes: of its arrays, each once a way.
        flops: of its products; None where it has none.
    """

    operation: str
    kernel: str
    side_stream: bool
    us: float
    start: float = 0.0
    geometry: str | None = None
    bound_by: str | None = None
    bytes: int | None = None
    flops: int | None = None

    @property
    def end(self) -> float:
        """Microseconds from the beginning of the step to the end of the launch."""
        return self.start + self.us

    @property
    def kind(self) -> str:
        """Kind of the launch, of ``KINDS``."""
        return next(kind for kind, beginnings in KINDS.items() if self.kernel.startswith(beginnings))


@dataclass(frozen=True)
class Timeline:
    """The launches of a step.

    Attributes:
        update: of the dense weights: "fused", or on the "side stream".
        taken: whether that is how training does it in this precision.
        bars: laid out.
        gap: microseconds before each of them.
        floor_us: below which no step can be; None where it is not known.
        step_us: of the whole step, where it was measured.
    """

    precision: str
    batch: int
    update: str
    taken: bool
    bars: tuple[Bar, ...]
    gap: float
    floor_us: float | None = None
    step_us: float | None = None

    @property
    def at_least(self) -> float:
        """Microseconds if the branches do not slow each other down."""
        return max(bar.end for bar in self.bars)

    @property
    def at_most(self) -> float:
        """Microseconds if all launches run one after the other."""
        return sum(self.gap + bar.us for bar in self.bars)


def lay_out(bars: Iterable[Bar], gap: float = 0.0) -> tuple[Bar, ...]:
    """Return the bars with their starts, in the order of a recording, as a CUDA graph of two branches runs them.

    A launch of the main branch starts after the one before it there; one of the side stream starts after all before it,
    on either branch.
    """
    main = side_stream = 0.0
    placed = []
    for each in bars:
        bar = replace(each, start=gap + (max(main, side_stream) if each.side_stream else main))
        if bar.side_stream:
            side_stream = bar.end
        else:
            main = bar.end
        placed.append(bar)
    return tuple(placed)
