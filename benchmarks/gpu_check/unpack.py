"""Take a check apart into the files that benchmarks and tables read, one a benchmark, in benchmarks/results."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..harness.report import write_json

FILES = {
    "train_step": (
        *("step", "prediction", "step_against_torch"),
        *("tf32_against_torch_compile", "fp32_against_torch_compile"),
    ),
    "conv": ("conv",),
    "bandwidth": ("bandwidth",),
    "tiles": ("tiles",),
    "ops": ("ops",),
    "precision": ("precision",),
    "kernels": ("kernels",),
}
"""Items by the benchmark whose rows they have."""

_KEYS = (
    *("name", "layer", "pass", "variant", "precision", "batch", "engine", "l2", "baseline", "version", "rank"),
    *("device", "kernel", "proof"),
)
"""Keys by which the rows of a benchmark differ."""


def unpack(document: dict[str, Any], folder: Path) -> None:
    """Write ``<benchmark>_cuda.json`` for each benchmark that has rows, and the check without them."""
    items = {item["name"]: item for item in document["items"]}
    for benchmark, names in FILES.items():
        parts = [found for name in names if (found := items.get(name, {}).get("results")) and found.get("rows")]
        if not parts:
            continue
        whole = {**parts[0], "rows": _merged(parts)}
        launches = _launches(parts)
        _write(folder / f"{benchmark}_cuda.json", whole | ({"launches": launches} if launches else {}))
    unpacked = {name for names in FILES.values() for name in names}
    bare = [
        {key: value for key, value in item.items() if key != "results" or item["name"] not in unpacked}
        for item in document["items"]
    ]
    _write(folder / "gpu_check.json", {**document, "items": bare})


def _merged(parts: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows of several items; one that was measured again stands as it was measured last."""
    rows: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in (row for part in parts for row in part["rows"]):
        key = tuple(row.get(name) for name in _KEYS)
        if row.get("ms") or key not in rows:
            rows[key] = row
    return list(rows.values())


def _launches(parts: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The launches of each pass, from the first item that has them: a pass launches a kernel more than once."""
    passes: dict[tuple[Any, ...], tuple[int, list[dict[str, Any]]]] = {}
    for number, part in enumerate(parts):
        for launch in part.get("launches", []):
            key = launch["name"], launch["precision"], launch["batch"]
            first, launches = passes.setdefault(key, (number, []))
            if first == number:
                launches.append(launch)
    return [launch for _, launches in passes.values() for launch in launches]


def _write(path: Path, document: dict[str, Any]) -> None:
    write_json(path, document)
    print(f"wrote {path}")
