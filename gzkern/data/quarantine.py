"""Inputs that were left out, and the lines that say so."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple


class Quarantined(NamedTuple):
    """A file, or a label without a file (``path`` empty), that was left out, and why."""

    path: str
    id: str
    reason: str


def describe_skipped(skipped: Sequence[tuple[object, str, str]], most: int = 100) -> Iterator[str]:
    """A line for each (path, id, reason), the first ``most`` of very many, then their number; none for none.

    Labels without a file have one line together.
    """
    files = [(path, reason) for path, _, reason in skipped if path]
    absent = [id_ for path, id_, _ in skipped if not path]
    for path, reason in files[:most]:
        yield f"skipped {path}: {reason}"
    if len(files) > most:
        yield f"skipped {len(files) - most:,} more files"
    if absent:
        yield f"skipped {len(absent):,} labels without an image file, the first of id {absent[0]}"
    if skipped:
        yield f"{len(skipped):,} inputs skipped in all"
