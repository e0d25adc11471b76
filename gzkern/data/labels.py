"""Label files: for each image the fraction of votes for each answer of a decision tree."""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..decision_trees.tree import DecisionTree
from ..errors import InputError
from .tables import read_rows

_ROUNDING = 1e-6  # how far outside [0, 1] a printed fraction may lie; it is clipped


@dataclass(frozen=True, eq=False)
class Labels:
    """The rows of a label file, in the file's order.

    ``ids`` are as written in the file; ``fractions`` is (n, answers) float32 in [0, 1], columns in the order
    of the tree.
    """

    ids: tuple[str, ...]
    fractions: np.ndarray


def read_labels(path: str | Path, tree: DecisionTree) -> Labels:
    """Read a label file: an id column, then one column for each answer of the tree, in any order.

    Raises:
        InputError: naming file, row (the line in the file, from 1) and column of the first thing amiss.
    """
    rows = read_rows(path)
    _, header = next(rows, (0, []))
    if not header:
        raise InputError(f"{path}: empty file, expected a header and one row for each image")
    order = _column_order(path, header, tree)
    lines: dict[str, int] = {}
    values = array("d")
    for line, cells in rows:
        where = f"{path}: row {line}"
        if len(cells) != len(header):
            raise InputError(f"{where}: {len(cells)} cells, expected {len(header)} as in the header")
        id_, *numbers = cells
        if not id_:
            raise InputError(f"{where}, column {header[0]}: empty id")
        if id_ in lines:
            raise InputError(f"{where}, column {header[0]}: id {id_} stands in row {lines[id_]} already")
        lines[id_] = line
        try:
            values.extend(map(float, numbers))
        except ValueError:
            raise InputError(f"{where}, {_first_non_number(header, cells)}") from None
    if not lines:
        raise InputError(f"{path}: no rows below the header, expected one for each image")
    fractions = np.frombuffer(values, np.float64).reshape(len(lines), len(tree))
    # Written so that NaN fails too.
    bad = np.argwhere(~((fractions >= -_ROUNDING) & (fractions <= 1 + _ROUNDING)))
    if len(bad):
        row, column = bad[0]
        raise InputError(
            f"{path}: row {list(lines.values())[row]}, column {header[column + 1]}: "
            f"{fractions[row, column]:g}, expected a fraction from 0 to 1"
        )
    return Labels(tuple(lines), np.clip(fractions[:, order], 0, 1).astype(np.float32))


def _column_order(path: str | Path, header: list[str], tree: DecisionTree) -> list[int]:
    """For each answer of the tree, which of the file's columns (after the id) holds it."""
    id_column, *columns = header
    where = f"{path}: row 1"
    if id_column in tree.columns:
        raise InputError(f"{where}: the first column is {id_column}, expected the ids")
    if repeated := [c for i, c in enumerate(columns) if c in columns[:i]]:
        raise InputError(f"{where}: column {repeated[0]} stands twice")
    if missing := [c for c in tree.columns if c not in columns]:
        raise InputError(f"{where}: no column {_some(missing)}, which decision tree {tree.name} needs")
    if extra := [c for c in columns if c not in tree.columns]:
        raise InputError(f"{where}: column {_some(extra)} is not an answer of decision tree {tree.name}; remove it")
    return [columns.index(c) for c in tree.columns]


def _some(names: list[str]) -> str:
    shown = ", ".join(names[:3])
    return shown if len(names) <= 3 else f"{shown} (and {len(names) - 3} more)"


def _first_non_number(header: list[str], cells: list[str]) -> str:
    column = next(c for c in range(1, len(cells)) if not _is_number(cells[c]))
    found = f"{cells[column]!r} is not a number" if cells[column] else "empty cell"
    return f"column {header[column]}: {found}, expected a fraction from 0 to 1"


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
