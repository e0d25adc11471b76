"""The random perturbation of each training example, a pure function of (seed, example number)."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from ..config import AugmentConfig

COLOUR_AXIS = (-0.0148366, -0.01253134, -0.01040762)
"""The shift that α = 1 adds to (R, G, B) in [0, 1]: the scaled first principal component of the colours of the training
images (paper, data augmentation)."""

_STREAM = int.from_bytes(b"augment", "big")  # keeps this generator apart from others of the same seed

# Philox 4×64 gives four 64-bit words a counter value; an example takes seven of the words of two values.
_COUNTERS = 2
_WORDS = 4 * _COUNTERS


@dataclass(frozen=True)
class Parameters:
    """Perturbations of B images; the two crops of an image share its entry.

    All arrays are (B,), float64 but for ``flip``.

    Attributes:
        angle: rotation in degrees.
        tx: translation to the right, in image pixels.
        ty: translation down, in image pixels.
        flip: bool, whether the columns of the crop are mirrored before it is rotated.
        zoom: factor of magnification.
        colour: coordinate α along ``COLOUR_AXIS``.
    """

    angle: np.ndarray
    tx: np.ndarray
    ty: np.ndarray
    flip: np.ndarray
    zoom: np.ndarray
    colour: np.ndarray


def identity(count: int) -> Parameters:
    """Return the parameters that leave ``count`` images as they are."""
    zeros = np.zeros(count)
    return Parameters(zeros, zeros, zeros, np.zeros(count, np.bool_), np.ones(count), zeros)


def draw(seed: int, examples: np.ndarray, config: AugmentConfig) -> Parameters:
    """Draw the perturbation of each example (paper, data augmentation).

    Uniform angle, translation and log-zoom, a fair flip, a normal colour coordinate, all independent. What an
    example gets depends on the seed, its number and ``config`` alone, however the stream is cut into batches
    or spread over workers.

    Args:
        seed: 0 to 2**64 − 1.
        examples: (B,) int64, example numbers ≥ 0 in any order; fastest if they are consecutive.
        config: the ranges.
    """
    u = _uniforms(seed, examples)
    # Box–Muller, not a rejection method: each example must take the same number of words.
    normal = np.sqrt(-2.0 * np.log1p(-u[5])) * np.cos(2.0 * np.pi * u[6])
    return Parameters(
        angle=config.rotation * u[0],
        tx=config.translation * (2.0 * u[1] - 1.0),
        ty=config.translation * (2.0 * u[2] - 1.0),
        flip=config.flip & (u[3] < 0.5),
        zoom=config.zoom ** (2.0 * u[4] - 1.0),
        colour=config.colour * normal,
    )


def _uniforms(seed: int, examples: np.ndarray) -> np.ndarray:
    """Return the random numbers of each example: (_WORDS, B) float64, uniform in [0, 1).

    Example e owns the counter values 2e and 2e + 1 of Philox 4×64-10, so that a run of consecutive examples
    is one call. Raw words, whose stream NumPy promises to keep; that of ``Generator`` it may change.
    """
    key = np.array([seed, _STREAM], np.uint64)
    words = np.empty((len(examples), _WORDS), np.uint64)
    cuts = np.flatnonzero(np.diff(examples) != 1) + 1
    for start, stop in pairwise([0, *cuts.tolist(), len(examples)]):
        if start < stop:
            philox = np.random.Philox(key=key, counter=_COUNTERS * int(examples[start]))
            words[start:stop] = philox.random_raw(_WORDS * (stop - start)).reshape(-1, _WORDS)
    return (words.T >> np.uint64(11)) * 2.0**-53  # the 53 bits that a float64 holds
