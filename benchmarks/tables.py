"""The generated tables of README.md and docs/data.md, written between their marks from the recorded measurements.

python -m benchmarks.tables                all of them
python -m benchmarks.tables kernel,train   some of them

table    stands in     from benchmarks/results/...                  measured by
kernel   README.md     kernels_emulated.json, kernels_cuda.json     make test-all, python -m benchmarks.gpu_check
train    README.md     train_step_cuda.json                         python -m benchmarks.train_step
conv     README.md     conv_cuda.json                               python -m benchmarks.conv
augment  docs/data.md  augment_cpu.json                             python -m benchmarks.augment
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from gzkern.errors import GzkernError
from gzkern.runtime import source

from .harness.command import call, new_parser
from .harness.engines import PREDICT, STEP
from .harness.options import chosen
from .harness.report import LATE, RESULTS, markdown_table, read_json

ROOT = Path(__file__).parents[1]

Row = dict[str, Any]


def main(arguments: list[str] | None = None) -> int:
    """Rewrite the tables.

    Raises:
        GzkernError: a table's measurements are missing, or must not be believed; the tables before it are written.
    """
    parser = new_parser("benchmarks.tables", __doc__)
    names = chosen("table", TABLES, everything=True)
    parser.add_argument("tables", nargs="?", type=names, default=list(TABLES), help="all, or some with commas")
    for name in parser.parse_args(arguments).tables:
        file, text = TABLES[name]
        write_between_marks(ROOT / file, name, text(RESULTS))
    return 0


def write_between_marks(path: Path, name: str, text: str) -> None:
    """Replace the table of a name in a file."""
    begin, end = marks(name)
    before, _, rest = path.read_text(encoding="utf-8").partition(begin)
    _, _, after = rest.partition(end)
    path.write_text(f"{before}{begin}\n{text}\n{end}{after}", encoding="utf-8")


def marks(name: str) -> tuple[str, str]:
    """Return the lines before and after the table of a name."""
    return f"<!-- {name} table -->", f"<!-- end of {name} table -->"


# Kernels and their proofs

_SANITIZERS = {"asan": "ASan + UBSan", "tsan": "TSan"}


def kernel_text(results: Path) -> str:
    """Return a table with a line a kernel: its largest error on every device, its runs under sanitizers."""
    emulated, cuda = read_json(results / "kernels_emulated.json"), read_json(results / "kernels_cuda.json")
    kernels = [kernel for stem in source.stems() for kernel in source.load(stem).kernels]
    if reason := _unusable(emulated, kernels):
        raise GzkernError(f"kernels_emulated.json: {reason}; run make test-all")
    assert emulated is not None
    rows = emulated["rows"] + (cuda["rows"] if cuda else [])
    lines = []
    for kernel in kernels:
        on_cpu = _largest_error(_of_operation([row for row in rows if row["device"] == "cpu"], kernel))
        on_emulated = _largest_error(_of_kernel(rows, kernel, "emulated", "float64"))
        on_cuda = _largest_error(_of_kernel(rows, kernel, "cuda", "float64")) if cuda else "not run yet"
        lines.append((f"`{kernel}`", on_cpu, on_emulated, on_cuda, _sanitizer_runs(rows, kernel)))
    head = ("kernel", "cpu", "emulated", "cuda", "sanitizers (emulated)")
    check = read_json(results / "gpu_check.json")
    return "\n".join([*markdown_table(head, lines), "", _kernel_provenance(emulated, cuda, check)])


def _unusable(recorded: dict[str, Any] | None, kernels: Sequence[str]) -> str | None:
    """Say why no table is made of this; None if it can be."""
    if recorded is None:
        return "nothing is recorded yet"
    if recorded["failed"]:
        return f"{recorded['failed']} tests failed when this was recorded"
    lacking = set(kernels) - {row["kernel"] for row in recorded["rows"] if row["proof"] == "float64"}
    return f"recorded without {', '.join(sorted(lacking))}" if lacking else None


def _of_kernel(rows: Sequence[Row], kernel: str, device: str, proof: str) -> list[Row]:
    return [row for row in rows if (row["device"], row["kernel"], row["proof"]) == (device, kernel, proof)]


def _of_operation(rows: Sequence[Row], kernel: str) -> list[Row]:
    """Return the rows of the CPU's function that a kernel is a part of, such as "conv2d backward, no pool"."""
    names = {id(row): row["kernel"].partition(",")[0].replace(" ", "_") for row in rows}
    of_pass = [row for row in rows if kernel.startswith(names[id(row)])]
    of_operation = [row for row in rows if kernel.partition("_")[0] == names[id(row)].partition("_")[0]]
    return of_pass or of_operation  # one function may serve all passes


def _largest_error(rows: Sequence[Row]) -> str:
    if not rows:
        return "–"
    largest = max(row["error"] for row in rows)
    return "exact" if largest == 0 else f"{largest:.2f}"


def _sanitizer_runs(rows: Sequence[Row], kernel: str) -> str:
    runs = {
        label: sum(row["runs"] for row in _of_kernel(rows, kernel, "emulated", proof))
        for proof, label in _SANITIZERS.items()
    }
    return ", ".join(f"{label}: {count}" for label, count in runs.items() if count) or "–"


def _kernel_provenance(emulated: dict[str, Any], cuda: dict[str, Any] | None, check: dict[str, Any] | None) -> str:
    where = f"cpu and emulated: {emulated['processor']}, g++ {emulated['gxx']}, {emulated['date'][:10]}."
    if cuda is None:
        return f"{where} cuda: not run yet; `python -m benchmarks.gpu_check --out DIR` runs it."
    items = check["items"] if check else []
    ran = {each["name"].removeprefix("sanitizer_"): each["status"] for each in items if "sanitizer" in each["name"]}
    sanitizers = ", ".join(f"{tool} {status}" for tool, status in ran.items()) or "not run"
    return f"{where} cuda: {_gpu(cuda)}; compute-sanitizer: {sanitizers}."


# Training and prediction against PyTorch

_TRAIN_COMMAND = (
    "python -m benchmarks.train_step --device cuda --baseline torch,torch.compile "
    "--json benchmarks/results/train_step_cuda.json"
)
_PASSES = {
    STEP: ("training step", "paper_run_minutes", "1,562,500 steps"),
    PREDICT: ("prediction", "submission_minutes", "17 networks × 60 views × 79,975 images"),
}
"""Title, key of the minutes, and the work that takes them."""

_ENGINES = {
    "eager": ("torch",),
    "channels-last": ("torch channels-last",),
    "compiled": ("torch compiled", "torch max-autotune"),
    "CUDA graph": ("torch graph", "torch channels-last graph", "torch bf16 weights graph"),
}
"""PyTorch's engines by column, which shows the fastest."""


def train_text(results: Path) -> str:
    """Return a table a pass, with a line a precision and batch, and the machine."""
    measured = read_json(results / "train_step_cuda.json")
    rows = measured["rows"] if measured else []
    ours = [row for row in rows if row["engine"] == "gzkern"]
    _refuse("train_step_cuda.json", (row["failed"] for row in ours if row["failed"] != LATE))
    ours = [row for row in ours if row["ms"]]
    if not measured or not ours:
        return f"Not measured; `{_TRAIN_COMMAND}` does it."
    lines = []
    for what, (title, minutes, work) in _PASSES.items():
        head = (title, "batch", "ms (20–80 %)", "images/s", work, "of the floor", *_ENGINES, "ratio")
        lines += markdown_table(head, [_train_cells(row, minutes, rows) for row in ours if row["name"] == what])
        lines.append("")
    torch = next((row["engine_version"] for row in rows if row["engine"].startswith("torch")), None)
    lines.append(
        f"{_gpu(measured)}: medians of {ours[0]['repeats']} samples in turns, each of 50 ms or more. After the floor "
        f"PyTorch {torch}, in ms, of its graphs the fastest; the ratio is that of its best time to ours."
    )
    return "\n".join(lines)


def _train_cells(row: Row, minutes: str, rows: Sequence[Row]) -> tuple[Any, ...]:
    alike = [other for other in rows if all(other[key] == row[key] for key in ("name", "precision", "batch"))]
    rivals = [
        min((other["ms"] for other in alike if other["engine"] in names and other["ms"]), default=None)
        for names in _ENGINES.values()
    ]
    return (
        row["precision"],
        row["batch"],
        _spread(row),
        f"{row['images_per_s']:,.0f}",
        f"{row[minutes]:,.1f} min" if row[minutes] else "–",
        f"{row['floor_percent']:.0f} %" if row["floor_percent"] else "–",
        *(f"{ms:.3g}" if ms else "–" for ms in rivals),
        f"{row['ratio']:.2f}" if row["ratio"] else "–",
    )


# Convolutions against cuDNN and PyTorch

_CONV_COMMAND = "python -m benchmarks.conv --json benchmarks/results/conv_cuda.json"
_CONV_KEYS = ("layer", "pass", "variant", "precision", "batch")


def conv_text(results: Path) -> str:
    """Return a table of the rows with cold caches, a line a convolution against its fastest baseline."""
    measured = read_json(results / "conv_cuda.json")
    rows = measured["rows"] if measured else []
    _refuse("conv_cuda.json", (row["error"] for row in rows))
    rows = [row for row in rows if row["ms"] and row["l2"] == "cold"]
    if not measured or not rows:
        return f"Not measured; `{_CONV_COMMAND}` does it on a machine with a GPU."
    fastest: dict[tuple[Any, ...], Row] = {}
    for row in rows:
        key = tuple(row[name] for name in _CONV_KEYS)
        fastest[key] = min(fastest.get(key, row), row, key=lambda row: row["baseline_ms"] or float("inf"))
    head = (*_CONV_KEYS, "ms (20–80 %)", "TFLOP/s", "% of peak", "baseline", "its ms", "ratio")
    verdict = max(row["verified"]["error_over_bound"] for row in rows)
    provenance = (
        f"{rows[0]['device']}, driver {measured.get('driver')}, {measured['date'][:10]}: medians of "
        f"{rows[0]['samples']} samples in turns, cold caches; a ratio above 1 is a slower baseline. Results checked "
        f"against float64, worst error {verdict:.2f} of the bound."
    )
    cells = [(*key, *_conv_cells(row)) for key, row in fastest.items()]
    return "\n".join([*markdown_table(head, cells), "", provenance])


def _conv_cells(row: Row) -> tuple[str, ...]:
    percent = f"{row['peak_percent']:.0f}" if row["peak_percent"] else "–"
    ours = (_spread(row), f"{row['tflops']:.3g}", percent)
    if not row["ratio"]:
        return (*ours, "–", "–", "–")
    return (*ours, f"{row['baseline']}: {row['plan']}", f"{row['baseline_ms']:.3g}", f"{row['ratio']:.2f}")


# Augmentation on the CPU


def augment_text(results: Path) -> str:
    """Return two tables, engines by number of threads and sources of batches by workers, and the machine."""
    measured = read_json(results / "augment_cpu.json")
    if measured is None:
        raise GzkernError("augment_cpu.json: nothing is recorded yet")
    rows = measured["rows"]
    warps = [row for row in rows if row["name"] == "warp"]
    threads = list(dict.fromkeys(row["threads"] for row in warps))
    engines = ("warp, images/s", *(f"{count} thread{'s' * (count > 1)}" for count in threads), "largest error")
    sources = ("through the pool, images/s", *(f"--workers {count}" for count in threads))
    return "\n".join(
        [
            *markdown_table(engines, _engine_cells(warps, threads)),
            "",
            *markdown_table(sources, _source_cells(rows, threads)),
            "",
            _augment_provenance(measured, warps[0]),
        ]
    )


def _engine_cells(warps: Sequence[Row], threads: Sequence[int]) -> list[tuple[str, ...]]:
    speeds = {
        (engine, row["threads"]): row[key]
        for row in warps
        for engine, key in (("gzkern", "images_per_s"), (row["baseline"], "baseline_images_per_s"))
    }
    errors = {"gzkern": warps[0]["error"], **{row["baseline"]: row["baseline_error"] for row in warps}}
    return [
        (engine, *(f"{speeds[engine, count]:,.0f}" for count in threads), f"{error:.1e}")
        for engine, error in errors.items()
        if engine
    ]


def _source_cells(rows: Sequence[Row], threads: Sequence[int]) -> list[tuple[str, ...]]:
    speeds = {(row["name"], row["threads"]): row["images_per_s"] for row in rows}
    names = dict.fromkeys(row["name"] for row in rows if row["name"].endswith("to batches"))
    return [(name.removesuffix(" to batches"), *(f"{speeds[name, count]:,.0f}" for count in threads)) for name in names]


def _augment_provenance(measured: dict[str, Any], ours: Row) -> str:
    overhead = next(row["overhead_percent"] for row in measured["rows"] if "overhead_percent" in row)
    return (
        f"One thread: {ours['ns_a_sample']:.1f} ns a sample of three channels; {100 * ours['memory_share']:.0f} % of "
        f"the {measured['bandwidth_gb_s']:.1f} GB/s that the machine copies, if each row that is sampled is read once; "
        f"the pool takes {overhead:.1f} % more than the bare warp. Medians of {ours['samples']}, engines in turns, on "
        f"images that lie in no cache; the error is that of white noise, against float64. {measured['processor']}, "
        f"{measured['cores']} cores, {measured['date'][:10]}; `{measured['command']}`."
    )


# What the tables share


def _refuse(file: str, doubts: Any) -> None:
    """Raise the first of the errors that keep a file from being believed."""
    if doubt := next((each for each in doubts if each), None):
        raise GzkernError(f"{file}: {doubt}")


def _gpu(measured: dict[str, Any]) -> str:
    return f"{measured.get('gpu')}, driver {measured.get('driver')}, {measured['date'][:10]}"


def _spread(row: Row) -> str:
    return f"{row['ms']:.3g} ({row['ms_p20']:.3g}–{row['ms_p80']:.3g})"


TABLES: dict[str, tuple[str, Callable[[Path], str]]] = {
    "kernel": ("README.md", kernel_text),
    "train": ("README.md", train_text),
    "conv": ("README.md", conv_text),
    "augment": ("docs/data.md", augment_text),
}
"""The file of each table, and the function that makes its text from the folder of results."""


if __name__ == "__main__":
    call(main)
