"""The summary of a check, most urgent first: lost items, wrong results, and where time is lost."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

from ..harness.engines import PREDICT, STEP
from ..harness.report import RESULTS, read_json
from .schedule import INCOMPLETE, LEFT_OUT, NO_TIME, PASSED, Result

PREDICTED = RESULTS / "timeline_predicted.json"
GAP_ASSUMED = 1.0  # µs, benchmarks/profile/timeline.py
_MOST = 3  # sentences of one kind
_CLEAR = 1.05  # a ratio that is no noise


def summary(results: Sequence[Result]) -> list[str]:
    """Return sentences, the most urgent first."""
    rows = {each["name"]: (each.get("results") or {}).get("rows", []) for each in results}
    steps = [row for name in rows if name.startswith(("step", "prediction")) for row in rows[name]]
    sentences = list(
        chain(
            _lost(results),
            _wrong(rows),
            _step_times(steps),
            _side_stream(steps),
            _against_torch(steps),
            _launches(results),
            _against_baselines(rows.get("conv", []) + rows.get("ops", [])),
            _tiles(rows.get("tiles", [])),
            _ceilings(rows.get("bandwidth", [])),
        )
    )
    return sentences or ["Nothing was measured."]


def _lost(results: Sequence[Result]) -> Iterator[str]:
    """Name the items that did not pass, with the line of their output that says why."""
    for each in results:
        if each["status"] not in (PASSED, INCOMPLETE, LEFT_OUT, NO_TIME):
            how = " ".join(filter(None, (each["status"], each.get("reason"))))
            after = f" after {each['seconds']:g} s" if each.get("seconds") is not None else ""
            line = _telling(each.get("output", ""))
            yield f"{each['name']}: {how}{after}" + (f": {line}" if line else "")
    kinds = {INCOMPLETE: "ended before all was measured", LEFT_OUT: "left out", NO_TIME: "not begun, no time was left"}
    for status, words in kinds.items():
        names = [each["name"] for each in results if each["status"] == status]
        if names:
            reasons = dict.fromkeys(each["reason"] for each in results if each["status"] == status and each["reason"])
            yield f"{words}: {', '.join(names)}" + (f" ({'; '.join(reasons)})" if reasons else "")


def _telling(output: str) -> str:
    """The line of an output that says why: of a crash, a test, a benchmark; else the last, as of a traceback."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    for sign in ("Fatal Python error", "FAILED ", "not to be believed"):
        if found := [line for line in lines if line.startswith(sign)]:
            return found[0][:300]
    return lines[-1][:300] if lines else ""


def _wrong(rows: Mapping[str, Sequence[dict[str, Any]]]) -> Iterator[str]:
    """Repeat the error of every row that must not be believed, once."""
    errors = (row.get("error") for some in rows.values() for row in some)
    sentences = dict.fromkeys(error for error in errors if isinstance(error, str))  # of a proof it is a number
    yield from (f"wrong: {sentence}" for sentence in sentences)
    failed = {
        f"wrong: {row['engine']}, {row['name']} in {row['precision']}: {row['failed']}"
        for some in rows.values()
        for row in some
        if row.get("failed") and str(row.get("engine", "")).startswith("gzkern") and "no time" not in row["failed"]
    }
    yield from sorted(failed)


def _step_times(steps: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Give our times of a step, beside the predicted ones, and our rates of prediction."""
    predicted = {row["precision"]: row["at_most_us"] for row in _predicted()["totals"] if row["taken"]}
    for row in _ours(steps, STEP):
        beside = f", PREDICTED {predicted[row['precision']]:.0f} on an H100" if row["precision"] in predicted else ""
        run = f"; the paper's run would take {row['paper_run_minutes']:g} min" if row.get("paper_run_minutes") else ""
        yield f"a step of {row['batch']} images in {row['precision']}: {1e3 * row['ms']:.0f} µs{beside}{run}"
    for row in _ours(steps, PREDICT):
        yield f"prediction of {row['batch']} images in {row['precision']}: {row['images_per_s']:.0f} images/s"


def _ours(steps: Sequence[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    """Rows of gzkern that were measured, once a precision and batch."""
    rows = {
        (row["precision"], row["batch"]): row
        for row in steps
        if (row["name"], row["engine"]) == (name, "gzkern") and row["ms"]
    }
    return list(rows.values())


def _side_stream(steps: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Name the precisions in which the update on the side stream is faster than the fused one, which training uses."""
    times = {(row["precision"], row["engine"]): row["ms"] for row in steps if row["name"] == STEP and row["ms"]}
    for (precision, engine), ms in times.items():
        other = times.get((precision, "gzkern side stream"))
        if engine == "gzkern" and other and ms > _CLEAR * other:
            yield (
                f"in {precision} the update on the side stream is {ms / other:.2f} times as fast as the fused one: "
                "make it the default (steps.record)"
            )


def _against_torch(steps: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Give our ratios to PyTorch's best variant, the lowest first."""
    rows = sorted((row for row in steps if row.get("ratio")), key=lambda row: row["ratio"])
    for row in rows:
        title = f"{row['name']} of {row['batch']} images in {row['precision']}"
        yield f"{title}: {row['ratio']:.2f} times as fast as {row['baseline']}"


def _launches(results: Sequence[Result]) -> Iterator[str]:
    """Name the launches of a step that take the most time beyond the predicted."""
    predicted: dict[tuple[str, str, str], float] = {
        (row["precision"], row["operation"], row["kernel"]): row["us"]
        for row in _predicted()["rows"]
        if row["update"] == "fused"
    }
    late = {}
    for each in results:
        for launch in (each.get("results") or {}).get("launches", []):
            key = launch["precision"], launch["operation"], launch["kernel"]
            if launch["name"] == STEP and key in predicted:
                late[key] = 1e3 * launch["ms"], predicted[key]
    for (precision, operation, kernel), (us, expected) in sorted(late.items(), key=lambda i: i[1][1] - i[1][0])[:_MOST]:
        if us > _CLEAR * expected:
            yield f"{operation} in {precision}, {kernel}: {us:.1f} µs, PREDICTED {expected:.1f}"


def _against_baselines(rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Name kernels that a baseline beats with a cold cache, those that lose most time first."""
    slower = [row for row in rows if row["l2"] == "cold" and row["ratio"] and row["ratio"] < 1]
    for row in sorted(slower, key=lambda row: row["baseline_ms"] - row["ms"])[:_MOST]:
        words = (row[key] for key in ("name", "layer", "pass", "variant", "precision"))
        yield (
            f"{' '.join(word for word in words if word)}, batch {row['batch']}: {1e3 * row['ms']:.1f} µs, "
            f"{row['baseline']} {1e3 * row['baseline_ms']:.1f}"
        )


def _tiles(rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Name tiles that are chosen though another is faster."""
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in rows:
        if row["ms"]:
            groups.setdefault(tuple(row[key] for key in ("layer", "pass", "precision", "batch")), []).append(row)
    found = []
    for names, group in groups.items():
        best = min(group, key=lambda row: row["ms"])
        for row in group:
            if row["chosen"] and row["ms"] > _CLEAR * best["ms"]:
                title = f"{names[0]} {names[1]} in {names[2]}, batch {names[3]}"
                sentence = (
                    f"{title}: {best['version']} <{best['tile']}> takes {1e3 * best['ms']:.1f} µs, the chosen "
                    f"{row['version']} <{row['tile']}> {1e3 * row['ms']:.1f}"
                )
                found.append((best["ms"] - row["ms"], sentence))
    yield from (sentence for _, sentence in sorted(found)[:_MOST])


def _ceilings(rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Give the measured bandwidth, and the gap between launches beside the assumed one."""
    for row in rows:
        if row["name"] == "copy on the device":
            yield f"a copy on the device: {row['gb_s']:.0f} GB/s, read and written"
        if row["name"] == "launch, in a CUDA graph":
            yield f"a kernel more in a CUDA graph: {row['us']:g} µs; the predictions assume {GAP_ASSUMED:g}"


def _predicted() -> dict[str, Any]:
    return read_json(PREDICTED) or {"totals": [], "rows": []}
