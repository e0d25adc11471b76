"""Tables of predictions: CSV and Parquet."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ..data.tables import write_rows
from ..errors import InputError

Write = Callable[[BinaryIO, Sequence[str], Sequence[str], np.ndarray], Any]
"""A function of an open file, the ids, the columns and the answers (n, A)."""


def writer(out: Path, overwrite: bool) -> Write:
    """Check that ``out`` can be written, and return the function that writes it.

    Raises:
        InputError: it exists, its folder cannot be written to, or its suffix is another.
    """
    if out.exists() and not overwrite:
        raise InputError(f"{out}: already exists; choose another name or pass --overwrite")
    if not os.access(out.parent, os.W_OK):
        raise InputError(f"{out}: cannot be written; {out.parent} is not a folder one can write to")
    if out.suffix.lower() == ".csv":
        return _write_csv
    if out.suffix.lower() == ".parquet":
        return _parquet_writer()
    raise InputError(f"{out}: expected a name that ends in .csv or .parquet")


def _write_csv(file: BinaryIO, ids: Sequence[str], columns: Sequence[str], table: np.ndarray) -> None:
    # A file name need not be valid Unicode. Nine digits give back the float32.
    text = io.TextIOWrapper(file, encoding="utf-8", errors="backslashreplace", newline="")
    rows = ([id_, *(f"{value:.9g}" for value in row)] for id_, row in zip(ids, table, strict=True))
    write_rows(text, ["GalaxyID", *columns], rows)
    text.detach()  # flushes, and leaves the file open to its owner


def _parquet_writer() -> Write:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise InputError('writing Parquet needs pyarrow: pip install "gzkern[catalog]"') from None

    def write(file: BinaryIO, ids: Sequence[str], columns: Sequence[str], table: np.ndarray) -> None:
        named = {"GalaxyID": list(ids), **{name: table[:, i] for i, name in enumerate(columns)}}
        pyarrow.parquet.write_table(pyarrow.table(named), file)

    return write
