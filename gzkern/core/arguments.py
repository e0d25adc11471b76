"""Checks of the arrays that reach an operation: one sentence that names op, argument, expected and got."""

from __future__ import annotations

from typing import Any

from ..errors import InputError


def shape(op: str, name: str, array: Any, expected: tuple[int | None, ...]) -> None:
    """Refuse an array whose shape is not ``expected`` (None: any extent).

    Raises:
        InputError: names the operation, the argument, both shapes.
    """
    fits = array.ndim == len(expected) and all(
        want is None or want == got for want, got in zip(expected, array.shape, strict=True)
    )
    if not fits:
        wanted = ", ".join("any" if extent is None else str(extent) for extent in expected)
        raise InputError(f"{op}: {name} has shape {array.shape}, expected ({wanted})")


def only_fp32(op: str, precision: str) -> None:
    """Refuse another precision where there is none.

    Raises:
        InputError: names the operation.
    """
    if precision != "fp32":
        raise InputError(f"{op}: precision is {precision!r}, the CPU computes in 'fp32' alone")


def same_dtype(op: str, **arrays: Any) -> None:
    """Refuse arrays of different dtypes.

    Raises:
        InputError: names the operation and the dtype of each argument.
    """
    if len({array.dtype for array in arrays.values()}) > 1:
        got = ", ".join(f"{name} {array.dtype}" for name, array in arrays.items())
        raise InputError(f"{op}: expected one dtype for all arrays, got {got}")
