"""The answers of volunteers: from a galaxy's true shape, through their doubt, to vote fractions."""

from __future__ import annotations

import numpy as np

from ...decision_trees.tree import DecisionTree
from .camera import Exposure
from .morphology import Galaxy

Answers = dict[int, np.ndarray]
"""Per question id, the probability of each answer given that the question is asked."""


def answer_probabilities(galaxy: Galaxy, exposure: Exposure) -> Answers:
    """Return the probabilities of each Galaxy Zoo 2 answer on this galaxy, summing to 1 per question.

    Features must be resolved by the seeing and stand above the noise to be seen; the less they do, the more
    a galaxy is called smooth and the more evenly the answers spread.
    """
    clarity = _clarity(galaxy, exposure)
    oddities = _oddities(galaxy, clarity)
    odd = 1 - (1 - 0.05) * float(np.prod(1 - oddities))
    spirals = galaxy.contrast * (galaxy.arms > 0)
    answers: Answers = {
        1: _smooth_features_star(galaxy, clarity),
        2: _yes(_logistic((0.27 - galaxy.axis_ratio) / 0.04)),
        3: _yes(0.05 + 0.87 * clarity * _saturate(galaxy.bar / 0.1)),
        4: _yes(0.04 + 0.93 * (0.35 + 0.65 * clarity) * _saturate(spirals / 0.2)),
        5: _nearest(galaxy.bulge, (0.0, 0.13, 0.36, 0.7), 0.11),
        6: _yes(odd),
        7: _nearest(galaxy.axis_ratio, (1.0, 0.66, 0.3), 0.15),
        8: oddities / oddities.sum(),
        9: _edge_on_bulge(galaxy),
        10: _nearest(np.degrees(galaxy.pitch), (11.0, 20.0, 31.0), 5.0),
        11: _arms(galaxy, clarity),
    }
    doubt = 0.04 + 0.16 * (1 - clarity)
    for question in answers.keys() - {1, 6, 8}:  # these three count doubt already
        sure = answers[question]
        answers[question] = (1 - doubt) * sure + doubt / len(sure)
    return answers


def draw_fractions(answers: Answers, tree: DecisionTree, rng: np.random.Generator) -> np.ndarray:
    """(A,) vote fractions of 40 to 50 volunteers, who answer those questions that their answers lead to.

    The fraction of an answer is its votes over all volunteers, which is what conditional fractions multiply
    to down the tree: a question's answers sum to the answer that leads to it.
    """
    volunteers = int(rng.integers(40, 51))
    votes = np.zeros(len(tree), int)
    for index in tree.order:
        question = tree.questions[index]
        asked = volunteers if question.parent is None else votes[question.parent]
        votes[question.columns] = rng.multinomial(asked, answers[question.id])
    return votes / volunteers


def _clarity(galaxy: Galaxy, exposure: Exposure) -> float:
    """Return how clearly features show, 0 to 1: by seeing widths across the galaxy and by signal to noise."""
    widths = galaxy.half_light / exposure.grid.pixel / exposure.seeing
    return _saturate(widths / 4.5) * _saturate(exposure.surface_brightness / 14)


def _smooth_features_star(galaxy: Galaxy, clarity: float) -> np.ndarray:
    if galaxy.body == "star":
        return np.array([0.16, 0.08, 0.76])
    structure = {"elliptical": 0.0, "disk": 0.16, "edge-on": 0.95, "irregular": 0.65}[galaxy.body]
    structure += 2.2 * galaxy.contrast * (galaxy.arms > 0) + 3 * galaxy.bar + galaxy.ring + galaxy.dust
    if galaxy.companion is not None:
        structure = 0.25 + 0.75 * structure
    features = 0.05 + 0.93 * (0.3 + 0.7 * clarity) * _saturate(2.2 * structure)
    return np.array([0.98 * (1 - features), 0.98 * features, 0.02])


def _oddities(galaxy: Galaxy, clarity: float) -> np.ndarray:
    """(7,) chance that each odd feature of question 8 is noticed, in its order."""
    merger = 0.0 if galaxy.companion is None else 0.55 + 0.4 * galaxy.disturbance
    alone = 0.25 if galaxy.companion else 1.0
    irregular = 0.8 if galaxy.body == "irregular" else 0.0
    strengths = (
        galaxy.ring,
        galaxy.arc,
        0.7 * galaxy.disturbance * alone * (1 - irregular),
        irregular,
        0.02,
        merger,
        0.4 * galaxy.dust,
    )
    seen = 0.35 + 0.65 * clarity
    return np.clip(0.004 + 0.95 * seen * np.array(strengths), 0, 0.97)


def _edge_on_bulge(galaxy: Galaxy) -> np.ndarray:
    present = _logistic((galaxy.bulge - 0.12) / 0.03)
    boxy = present * (0.06 + 0.7 * (galaxy.boxiness > 2))
    return np.array([present - boxy, boxy, 1 - present])


def _arms(galaxy: Galaxy, clarity: float) -> np.ndarray:
    """Question 11: one to four, more than four, cannot tell."""
    lost = 0.1 + 0.6 * galaxy.flocculence * (1.2 - 0.5 * clarity) if galaxy.arms else 0.6
    counted = _nearest(galaxy.arms, (1, 2, 3, 4, 5), 0.62)
    return np.append((1 - lost) * counted, lost)


def _yes(probability: float) -> np.ndarray:
    return np.array([probability, 1 - probability])


def _logistic(value: float) -> float:
    return float(1 / (1 + np.exp(-value)))


def _saturate(value: float) -> float:
    """0 at 0, rising to 1: linear at first, as evidence that no longer adds once it is plain."""
    return float(1 - np.exp(-value))


def _nearest(value: float, centres: tuple[float, ...], width: float) -> np.ndarray:
    """Probabilities by closeness to each answer's centre."""
    log_odds = -0.5 * ((value - np.array(centres)) / width) ** 2
    odds = np.exp(log_odds - log_odds.max())
    return odds / odds.sum()
