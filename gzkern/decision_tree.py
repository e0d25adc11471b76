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

from .errors import InputError

_SHIPPED = Path(__file__).parent / "decision_trees"


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

    @property
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


def load_tree(source: str | Path = "galaxy_zoo_2") -> DecisionTree:
    """Read a tree: the name of a shipped one, or the path of a TOML file.

    Raises:
        InputError: the file is absent, is not TOML, or does not describe a tree.
    """
    shipped = _SHIPPED / f"{source}.toml"
    path = shipped if shipped.is_file() else Path(source)
    try:
        with path.open("rb") as file:
            document = tomllib.load(file)
    except OSError:
        names = ", ".join(sorted(p.stem for p in _SHIPPED.glob("*.toml")))
        raise InputError(f"decision tree {str(source)!r}: no such file; give a TOML file or one of: {names}") from None
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"decision tree {path}: not valid TOML ({error})") from None
    return _build(document, str(path))


def _build(document: dict, where: str) -> DecisionTree:
    def require(condition: object, message: str) -> None:
        if not condition:
            raise InputError(f"decision tree {where}: {message}")

    entries = document.get("questions")
    require(isinstance(entries, list) and entries, "expected at least one [[questions]] table")
    require(isinstance(document.get("name"), str), 'expected name = "…" at the top')
    pattern = document.get("column", "{question}.{answer}")
    first_column: dict[int, int] = {}
    sizes: dict[int, int] = {}
    columns: list[str] = []
    for entry in entries or []:
        require(
            isinstance(entry.get("id"), int) and isinstance(entry.get("answers"), list),
            f"each question needs an integer id and a list of answers, got {entry}",
        )
        require(entry["id"] not in first_column, f"question {entry['id']} stands twice")
        require(len(entry["answers"]) >= 2, f"question {entry['id']} needs at least two answers")
        first_column[entry["id"]] = len(columns)
        sizes[entry["id"]] = len(entry["answers"])
        columns += [pattern.format(question=entry["id"], answer=a + 1) for a in range(len(entry["answers"]))]
    require(len(set(columns)) == len(columns), f"column pattern {pattern!r} gives one name to two answers")

    def parent_column(entry: dict) -> int | None:
        parent = entry.get("parent")
        require(
            not (parent and entry.get("unscaled")),
            f"question {entry['id']} is unscaled and has a parent; keep one of the two",
        )
        if parent is None:
            return None
        require(
            isinstance(parent, list) and len(parent) == 2 and parent[0] in sizes,
            f"question {entry['id']}: parent must be [question, answer], got {parent}",
        )
        question, answer = parent
        require(
            isinstance(answer, int) and 1 <= answer <= sizes[question],
            f"question {entry['id']}: question {question} has answers 1 to {sizes[question]}, got {answer}",
        )
        return first_column[question] + answer - 1

    questions = tuple(
        Question(e["id"], e.get("text", ""), tuple(e["answers"]), first_column[e["id"]], parent_column(e))
        for e in entries or []
    )
    _require_no_cycle(questions, require)
    return DecisionTree(document["name"], questions, tuple(columns))


def _require_no_cycle(questions: Sequence[Question], require) -> None:  # type: ignore[no-untyped-def]
    owner = {column: q for q in questions for column in range(q.start, q.stop)}
    for question in questions:
        current, steps = question, 0
        while current.parent is not None:
            current, steps = owner[current.parent], steps + 1
            require(steps <= len(questions), f"question {question.id} leads back to itself")
