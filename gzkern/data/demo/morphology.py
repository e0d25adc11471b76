"""The true shapes of galaxies, and how often each occurs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

KIND_SHARES = {
    "elliptical": 0.32,
    "disk": 0.47,
    "edge-on": 0.12,
    "irregular": 0.035,
    "merger": 0.035,
    "star": 0.02,
}
"""The share of each kind that is drawn, near the shares in the Galaxy Zoo 2 sample."""


@dataclass(frozen=True)
class Companion:
    """The other galaxy of a merger: (x, y) frame pixels away, ``ratio`` times as bright as the main one."""

    galaxy: Galaxy
    x: float
    y: float
    ratio: float


@dataclass(frozen=True)
class Galaxy:
    """The true shape. Lengths are in frame pixels, angles in radians, strengths from 0 (absent) to 1."""

    body: Literal["elliptical", "disk", "edge-on", "irregular", "star"]
    """The galaxy by itself, without its companion."""
    seed: int
    """Seeds the texture (knots, wobble of the arms), so that a galaxy is drawn alike every time."""
    half_light: float
    """Radius along the major axis that holds half the light."""
    axis_ratio: float
    """Apparent short over long axis."""
    angle: float
    """Major axis, from x towards y."""
    age: float
    """Colour: 0 a young blue population, 1 an old red one."""
    sersic: float = 4.0
    """Sérsic index of the spheroid or the bulge."""
    bulge: float = 0.0
    """Share of the light in the bulge."""
    boxiness: float = 2.0
    """Exponent of the bulge's outline: 2 an ellipse, above it a box."""
    bar: float = 0.0
    """Share of the disk's light in the bar."""
    arms: int = 0
    """Number of spiral arms, 0 for none."""
    pitch: float = 0.3
    """Angle between the arms and a circle."""
    contrast: float = 0.0
    """Share of the arms in the light of the disk that bar and ring leave."""
    handedness: int = 1
    """−1 mirrors the galaxy in its major axis."""
    flocculence: float = 0.0
    """Degree to which the arms dissolve into patches."""
    ring: float = 0.0
    dust: float = 0.0
    disturbance: float = 0.0
    """Lopsidedness and tidal tails."""
    arc: float = 0.0
    """A gravitational arc."""
    companion: Companion | None = None


def draw_galaxy(rng: np.random.Generator, kind: str | None = None) -> Galaxy:
    """Draw one galaxy, of a given kind (a key of `KIND_SHARES`) or of one drawn by these shares."""
    if kind is None:
        kind = list(KIND_SHARES)[rng.choice(len(KIND_SHARES), p=list(KIND_SHARES.values()))]
    return _DRAW[kind](rng)


def _chance(rng: np.random.Generator, probability: float, low: float, high: float) -> float:
    """A strength in [low, high) with the given probability, else 0."""
    value = float(rng.uniform(low, high))
    return value if rng.random() < probability else 0.0


def _common(rng: np.random.Generator, half_light: float, spread: float = 0.22) -> dict[str, Any]:
    """Fields of every kind: texture seed, orientation, size (log-normal about ``half_light``)."""
    return {
        "seed": int(rng.integers(2**32)),
        "angle": float(rng.uniform(0, np.pi)),
        "half_light": half_light * float(np.exp(rng.normal(0, spread))),
    }


def _elliptical(rng: np.random.Generator) -> Galaxy:
    return Galaxy(
        "elliptical",
        **_common(rng, 26),
        axis_ratio=float(np.clip(rng.beta(3.2, 1.4), 0.32, 1)),
        age=float(np.clip(rng.normal(0.78, 0.18), 0.2, 1)),
        sersic=float(rng.uniform(2.2, 4.8)),
        arc=_chance(rng, 0.01, 0.4, 1),
    )


def _disk(rng: np.random.Generator) -> Galaxy:
    """A disk seen at less than about 75°: lenticular, ringed, barred, spiral, in any mixture."""
    bulge = float(rng.beta(1.2, 3.2))
    spiral = rng.random() < 0.72
    arms = int(rng.choice([1, 2, 3, 4, 5], p=[0.09, 0.56, 0.16, 0.1, 0.09])) if spiral else 0
    # Big bulges wind their arms tighter: the Hubble sequence.
    pitch = np.radians(np.clip(rng.normal(25 - 20 * bulge, 7), 6, 42))
    contrast = float(rng.uniform(0.12, 0.52)) if spiral else 0.0
    return Galaxy(
        "disk",
        **_common(rng, 33),
        axis_ratio=float(rng.uniform(0.28, 1)),
        age=float(np.clip(rng.normal(0.3 + 0.5 * bulge + (0 if spiral else 0.3), 0.13), 0, 1)),
        sersic=float(rng.uniform(1.2, 3.5)),
        bulge=bulge,
        bar=_chance(rng, 0.3, 0.06, 0.24),
        arms=arms,
        pitch=float(pitch),
        contrast=contrast,
        handedness=int(rng.choice([-1, 1])),
        flocculence=float(rng.beta(1.3, 2)) if spiral else 0.0,
        ring=_chance(rng, 0.06, 0.3, 1),
        disturbance=_chance(rng, 0.06, 0.3, 1),
        arc=_chance(rng, 0.004, 0.4, 1),
    )


def _edge_on(rng: np.random.Generator) -> Galaxy:
    bulge = _chance(rng, 0.65, 0.08, 0.5)
    return Galaxy(
        "edge-on",
        **_common(rng, 36),
        axis_ratio=float(rng.uniform(0.15, 0.32)),
        age=float(np.clip(rng.normal(0.42 + 0.6 * bulge, 0.17), 0, 1)),
        sersic=float(rng.uniform(1.2, 3)),
        bulge=bulge,
        boxiness=float(rng.choice([2.0, rng.uniform(3, 4.5)], p=[0.85, 0.15])),
        dust=_chance(rng, 0.25, 0.3, 1),
        disturbance=_chance(rng, 0.04, 0.3, 0.7),
    )


def _irregular(rng: np.random.Generator) -> Galaxy:
    return Galaxy(
        "irregular",
        **_common(rng, 28),
        axis_ratio=float(rng.uniform(0.35, 0.95)),
        age=float(rng.uniform(0, 0.3)),
        bar=_chance(rng, 0.3, 0.08, 0.2),
        flocculence=float(rng.uniform(0.5, 1)),
        disturbance=float(rng.uniform(0.2, 0.9)),
    )


def _merger(rng: np.random.Generator) -> Galaxy:
    """Two galaxies of comparable light within each other's reach, stirred by their tides."""
    main = _disk(rng) if rng.random() < 0.65 else _elliptical(rng)
    other = _disk(rng) if rng.random() < 0.65 else _elliptical(rng)
    size = float(rng.uniform(0.65, 0.9))
    distance, direction = float(rng.uniform(22, 75)), float(rng.uniform(0, 2 * np.pi))
    companion = Companion(
        replace(other, half_light=other.half_light * size * float(rng.uniform(0.6, 1))),
        x=distance * float(np.cos(direction)),
        y=distance * float(np.sin(direction)),
        ratio=float(rng.uniform(0.2, 1)),
    )
    stirred = float(rng.beta(1.5, 1.5))
    return replace(main, half_light=main.half_light * size, disturbance=stirred, companion=companion)


def _star(rng: np.random.Generator) -> Galaxy:
    return Galaxy("star", **_common(rng, 12), axis_ratio=1.0, age=float(rng.uniform(0, 1)))


_DRAW: dict[str, Callable[[np.random.Generator], Galaxy]] = {
    "elliptical": _elliptical,
    "disk": _disk,
    "edge-on": _edge_on,
    "irregular": _irregular,
    "merger": _merger,
    "star": _star,
}
