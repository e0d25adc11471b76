"""Decision trees of a citizen-science project, as data.

A tree is a TOML file: questions, their answers, and for each question the answer that leads to it. All that
the constraint layer, the label reader and the evaluation need (column names, slices, parents) is derived here.
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from ..errors import InputError

_SHIPPED = Path(__file__).parent


@dataclass(frozen=True)
class Question:
    """One question of the tree.

    ``parent`` is the column of the answer that leads to the question; None where it is asked of every image.
    """

    id: int
    text: str
    answers: tuple[str, ...]
    start: int
    parent: int | None

    @property
    def stop(self) -> int:
        """Column after the last answer."""
        return self.start + len(self.answers)

    @cached_property
    def columns(self) -> slice:
        """The columns of the answers in a (…, answers) array."""
        return slice(self.start, self.stop)


@dataclass(frozen=True)
class DecisionTree:
    """Questions in column order; ``columns`` names each answer."""

    name: str
    questions: tuple[Question, ...]
    columns: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.columns)

    @cached_property
    def question_of(self) -> np.ndarray:
        """(A,) int32: the index of the question each answer belongs to."""
        counts = [len(q.answers) for q in self.questions]
        return np.repeat(np.arange(len(counts), dtype=np.int32), counts)

    @cached_property
    def starts(self) -> np.ndarray:
        """(Q+1,) int32: the first column of each question, then the number of columns."""
        return np.array([q.start for q in self.questions] + [len(self)], np.int32)

    @cached_property
    def parents(self) -> np.ndarray:
        """(Q,) int32: the column each question's answers are scaled by, −1 for none."""
        return np.array([-1 if q.parent is None else q.parent for q in self.questions], np.int32)

    @cached_property
    def order(self) -> np.ndarray:
        """(Q,) int32: question indices, every parent before its children."""
        depth: list[int] = []
        for index in range(len(self.questions)):
            parent, steps = self.parents[index], 0
            while parent >= 0:
                parent, steps = self.parents[self.question_of[parent]], steps + 1
            depth.append(steps)
        return np.argsort(depth, kind="stable").astype(np.int32)


def trees() -> list[str]:
    """Return the names of the shipped decision trees.

    >>> trees()
    ['galaxy_zoo_2']
    """
    return sorted(path.stem for path in _SHIPPED.glob("*.toml"))


def load_tree(source: str | Path = "galaxy_zoo_2") -> DecisionTree:
    """Read a tree: the name of a shipped one, or the path of a TOML file.

    Raises:
        InputError: the file is absent, is not TOML, or does not describe a tree.

    >>> tree = load_tree("galaxy_zoo_2")
    >>> len(tree), tree.columns[:3]
    (37, ('Class1.1', 'Class1.2', 'Class1.3'))
    >>> tree.questions[1].text
    'Is it an edge-on disk?'
    """
    shipped = _SHIPPED / f"{source}.toml"
    path = shipped if shipped.is_file() else Path(source)
    try:
        with path.open("rb") as file:
            document = tomllib.load(file)
    except OSError:
        raise InputError(
            f"decision tree {str(source)!r}: no such file; give a TOML file or one of: {', '.join(trees())}"
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"decision tree {path}: not valid TOML ({error})") from None
    return _build(document, str(path))


def locate_tree(source: str | Path) -> str:
    """``source`` in a form that any folder understands: a shipped name as it is, a path made absolute."""
    return str(source) if (_SHIPPED / f"{source}.toml").is_file() else str(Path(source).absolute())


def _build(document: dict, where: str) -> DecisionTree:
    try:
        entries = _checked_entries(document)
        starts = dict(zip((e["id"] for e in entries), _starts(entries), strict=True))
        questions = tuple(
            Question(
                e["id"], e.get("text", ""), tuple(e["answers"]), starts[e["id"]], _parent_column(e, entries, starts)
            )
            for e in entries
        )
        _refuse_cycles(questions)
        columns = _columns(document.get("column", "{question}.{answer}"), questions)
    except ValueError as error:
        raise InputError(f"decision tree {where}: {error}") from None
    return DecisionTree(document["name"], questions, columns)


def _checked_entries(document: dict) -> list[dict]:
    entries = document.get("questions")
    if not (isinstance(entries, list) and entries):
        raise ValueError("expected at least one [[questions]] table")
    if not isinstance(document.get("name"), str):
        raise ValueError('expected name = "…" at the top')
    seen = set()
    for entry in entries:
        if not (
            isinstance(entry, dict) and isinstance(entry.get("id"), int) and isinstance(entry.get("answers"), list)
        ):
            raise ValueError(f"each question needs an integer id and a list of answers, got {entry}")
        if entry["id"] in seen:
            raise ValueError(f"question {entry['id']} stands twice")
        if len(entry["answers"]) < 2:
            raise ValueError(f"question {entry['id']} needs at least two answers")
        if entry.get("parent") is not None and entry.get("unscaled"):
            raise ValueError(f"question {entry['id']} is unscaled and has a parent; keep one of the two")
        seen.add(entry["id"])
    return entries


def _starts(entries: Sequence[dict]) -> list[int]:
    counts = [len(entry["answers"]) for entry in entries]
    return [sum(counts[:index]) for index in range(len(counts))]


def _parent_column(entry: dict, entries: Sequence[dict], starts: dict[int, int]) -> int | None:
    parent = entry.get("parent")
    if parent is None:
        return None
    if not (isinstance(parent, list) and [type(part) for part in parent] == [int, int] and parent[0] in starts):
        raise ValueError(f"question {entry['id']}: parent must be [question, answer], got {parent}")
    question, answer = parent
    count = next(len(e["answers"]) for e in entries if e["id"] == question)
    if not 1 <= answer <= count:
        raise ValueError(
            f"question {entry['id']}: its parent, question {question}, has answers 1 to {count}, got {answer}"
        )
    return starts[question] + answer - 1


def _columns(pattern: str, questions: Sequence[Question]) -> tuple[str, ...]:
    try:
        columns = tuple(
            pattern.format(question=question.id, answer=answer)
            for question in questions
            for answer in range(1, len(question.answers) + 1)
        )
    except (KeyError, IndexError, ValueError, AttributeError):
        raise ValueError(f"column pattern {pattern!r}: expected text with {{question}} and {{answer}}") from None
    if len(set(columns)) < len(columns):
        raise ValueError(f"column pattern {pattern!r} gives one name to two answers")
    return columns


def _refuse_cycles(questions: Sequence[Question]) -> None:
    owner = {column: q for q in questions for column in range(q.start, q.stop)}
    for question in questions:
        current, steps = question, 0
        while current.parent is not None:
            current, steps = owner[current.parent], steps + 1
            if steps > len(questions):
                raise ValueError(f"question {question.id} leads back to itself")
