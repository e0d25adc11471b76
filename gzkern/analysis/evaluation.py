"""The score of a run's predictions, on images whose answers are known."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..data.dataset import Dataset, split
from ..data.recentring import recentring_of
from ..decision_trees.tree import DecisionTree, Question
from ..errors import InputError
from ..models.predictor import BATCH
from ..prediction.arrays import predict_rows
from ..runs.run import Run

_HALF = 0.5 - 1e-5  # half of the volunteers; labels have six digits


@dataclass(frozen=True)
class QuestionAccuracy:
    """Share of images whose likeliest answer is the crowd's, over those that at least half the crowd was asked."""

    question: Question
    images: int
    correct: int

    @property
    def accuracy(self) -> float | None:
        """Correct over images; None where the question was put to too few."""
        return self.correct / self.images if self.images else None


@dataclass(frozen=True)
class Evaluation:
    """``rmse`` is Kaggle's: the root of the mean squared error over images × answers."""

    images: int
    rmse: float
    questions: tuple[QuestionAccuracy, ...]


def rmse(predictions: np.ndarray, targets: np.ndarray) -> float:
    """Root of the mean of (p − t)² over images × answers, in float64."""
    difference = predictions.astype(np.float64) - targets
    return float(np.sqrt(np.mean(difference * difference)))


def score(predictions: np.ndarray, targets: np.ndarray, tree: DecisionTree) -> Evaluation:
    """Score predictions (n, A) against answer fractions (n, A)."""
    questions = []
    for question in tree.questions:
        asked = targets[:, question.columns].sum(axis=1) >= _HALF
        guess = predictions[asked, question.columns].argmax(axis=1)
        crowd = targets[asked, question.columns].argmax(axis=1)
        questions.append(QuestionAccuracy(question, int(asked.sum()), int((guess == crowd).sum())))
    return Evaluation(len(targets), rmse(predictions, targets), tuple(questions))


def choose_rows(run: Run, dataset: Dataset, part: str | None) -> tuple[str, range]:
    """The rows to score: by default the held-out part of the run's own data, all rows of any other.

    Raises:
        InputError: the part is empty.
    """
    own = run.environment.get("data_fingerprint") == dataset.fingerprint
    fraction = run.config.data.validation
    part = part or ("validation" if own and fraction > 0 else "all")
    if part == "all":
        return part, range(len(dataset))
    train, validation = split(len(dataset), fraction)
    rows = {"train": train, "validation": validation}[part]
    if not rows:
        raise InputError(f"--split {part}: the run holds out no images (data.validation = 0); use --split all")
    return part, rows


def evaluate(run: Run, dataset: Dataset, part: str | None = None, *, batch: int = BATCH) -> tuple[str, Evaluation]:
    """Predict a part of a data set and score it; returns the part's name with the scores.

    Args:
        run: a trained run.
        dataset: images with labels.
        part: "validation", "train", "all", or None as in :func:`choose_rows`.
        batch: images a network pass.

    Raises:
        InputError: the data set has no labels, or the part no images.

    >>> import gzkern
    >>> from gzkern.data.pack import open_pack
    >>> part, evaluation = evaluate(gzkern.load("demo/run"), open_pack("demo/pack"))
    >>> part, 0 < evaluation.rmse < 0.5
    ('validation', True)
    """
    if dataset.labels is None:
        raise InputError(f"{dataset.path}: has no labels to compare with; pack it again with --labels CSV")
    part, rows = choose_rows(run, dataset, part)
    indices = np.arange(rows.start, rows.stop)
    recentring = recentring_of(dataset, run.config.data)
    predictions = predict_rows(
        run.predictor, run.config.data, dataset.images, indices, batch=batch, recentring=recentring
    )
    return part, score(predictions, dataset.labels[indices], run.network.tree)
