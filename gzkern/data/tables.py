"""CSV files: read row by row, with one clear error for a file that is not a table, and written."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TextIO

from ..errors import InputError


def read_rows(path: str | Path) -> Iterator[tuple[int, list[str]]]:
    """Yield (line, cells) for each row of a CSV file: lines count from 1, cells are stripped.

    UTF-8 with or without a byte order mark, any line ends; empty lines are left out.

    Raises:
        InputError: the file cannot be read, or is not text, or not CSV.
    """
    path = Path(path)
    try:
        with path.open("rb") as start:
            if b"\0" in start.read(4096):
                raise InputError(f"{path}: not a text file, expected CSV in UTF-8")
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file)
            for cells in reader:
                if cells:
                    yield reader.line_num, [cell.strip() for cell in cells]
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({(error.strerror or str(error)).lower()})") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not a text file, expected CSV in UTF-8 ({error.reason})") from None
    except csv.Error as error:
        raise InputError(f"{path}: not a CSV file ({error})") from None


def write_rows(file: TextIO, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a header and rows as CSV with line ends of one byte; ``file`` is open with ``newline=""``."""
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
