"""The walls: imports go down only, heavy packages stay out of the package's import, one name an operation.

Also what holds the two kinds of device together: equal functions, and no kernel without binding and proof.
"""

import ast
import importlib
import importlib.util
import inspect
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

import gzkern
from gzkern.cpu.operations import OPERATIONS as CPU
from gzkern.cuda.conv2d.algorithm import Algorithm, Ladder
from gzkern.cuda.operations import OPERATIONS as CUDA
from gzkern.runtime import source
from gzkern.runtime.kernel import Kernel
from gzkern.runtime.operations import KernelOperations, Operations

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "gzkern"

# Upper layers first; a module may import from its own layer and from those below.
LAYERS = [
    ("cli", "__main__"),
    ("training", "analysis", "info"),
    ("runs",),
    ("prediction",),
    ("models",),
    ("augment", "data"),
    ("nn",),
    ("ops",),
    ("autograd",),
    ("device",),
    ("cpu", "cuda"),
    ("runtime",),
    ("config", "decision_trees"),
    ("core",),
    ("errors",),
]
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}
# Neighbours in their layer that do not know each other.
APART = {("cpu", "cuda"), ("cuda", "cpu")}
MOST_FILES = 25
"""Files of one folder that a reader still takes in."""


def modules():
    return [path for path in sorted(PACKAGE.rglob("*.py")) if path != PACKAGE / "__init__.py"]


def dotted(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path):
    """(absolute name of what is imported, whether at module level) of a file, a name for each ``from`` import."""
    tree = ast.parse(path.read_text())
    top = {id(node) for node in tree.body}
    package = path.relative_to(ROOT).parent.parts
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, id(node) in top) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            source = ".".join((*base, *([node.module] if node.module else ())))
            yield from ((f"{source}.{alias.name}", id(node) in top) for alias in node.names)


def module_graph(folder):
    """The modules of a package that each of its modules imports, at module level or inside a function.

    Its own ``__init__`` is left out: it imports nothing at run time, and lists for type checkers what callers import.
    """
    paths = {dotted(path): path for path in folder.rglob("*.py") if path != folder / "__init__.py"}
    graph = {}
    for name, path in paths.items():
        found = set()
        for imported, _ in imports(path):
            longest = imported if imported in paths else imported.rpartition(".")[0]
            if longest in paths and longest != name:
                found.add(longest)
        graph[name] = found
    return graph


def circles(graph):
    """The circles of a graph: groups of modules that reach each other."""
    reached = {name: reachable(graph, name) for name in graph}
    groups = {frozenset({name, *(other for other in reached[name] if name in reached[other])}) for name in graph}
    return sorted(sorted(group) for group in groups if len(group) > 1)


def reachable(graph, start):
    seen, waiting = set(), list(graph[start])
    while waiting:
        name = waiting.pop()
        if name not in seen:
            seen.add(name)
            waiting += graph[name]
    return seen


@pytest.mark.parametrize("folder", ["gzkern", "benchmarks"])
def test_no_modules_import_each_other_in_a_circle(folder):
    assert circles(module_graph(ROOT / folder)) == []


def test_a_circle_is_found():
    graph = {"a": {"b"}, "b": {"c"}, "c": {"b", "d"}, "d": set()}
    assert circles(graph) == [["b", "c"]]


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_go_down(path):
    part = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    assert part in RANK, f"{part} has no layer; add it to LAYERS"
    for name, _ in imports(path):
        if name.startswith("gzkern.") and name != "gzkern.__version__":
            below = name.split(".")[1]
            assert RANK[below] >= RANK[part], f"{path}: {part} imports {below}"
            assert (part, below) not in APART, f"{path}: {part} imports {below}"


@pytest.mark.parametrize("root", ["gzkern", "kernels", "benchmarks"])
def test_no_folder_holds_too_many_files(root):
    for folder in (ROOT / root, *(path for path in (ROOT / root).rglob("*") if path.is_dir())):
        files = [path.name for path in folder.iterdir() if path.is_file()]
        assert len(files) <= MOST_FILES, f"{folder.relative_to(ROOT)}: {len(files)} files"


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_forbidden_imports(path):
    names = {name.split(".")[0] for name, _ in imports(path)}
    assert not names & {"torch", "cudnn", "benchmarks", "pandas"}, path
    if path.relative_to(PACKAGE).parts[0] != "runtime":
        assert "cupy" not in names, path
    at_top = {name.split(".")[0] for name, top in imports(path) if top}
    if path.name != "jit.py" and "jit" not in path.parts:
        assert not at_top & {
            "numba",
            "llvmlite",
            "skimage",
            "matplotlib",
            "cupy",
            "pyarrow",
            "astropy",
            "sep",
            "simplejpeg",
        }, path


def run(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_type_checkers_see_the_public_names():
    """The imports that only type checkers see are those that ``gzkern.<name>`` makes at run time."""
    seen = {name for name, top in imports(PACKAGE / "__init__.py") if not top and name.startswith("gzkern.")}
    assert seen == {f"gzkern.{module}.{name}" for name, module in gzkern._MODULES.items()}
    assert set(gzkern.__all__) == {*gzkern._MODULES, "__version__"}


def test_importing_the_package_imports_nothing_heavy():
    code = (
        "import sys, gzkern; gzkern.load_config('laptop'); "
        "print(sorted(set(sys.modules) & {'numba', 'pandas', 'skimage', 'matplotlib', 'cupy', 'scipy', 'numpy'}))"
    )
    assert run(code).strip() == "[]"


def test_help_imports_nothing_heavy():
    code = (
        "import sys; from gzkern.cli.main import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "print(sorted(set(sys.modules) & {'numba', 'numpy', 'PIL', 'scipy', 'tqdm'}))"
    )
    assert run(code).splitlines()[-1] == "[]"


def test_importing_the_bindings_imports_nothing_heavy():
    """Neither CuPy nor the compiler of either CPU device: they come with the first launch."""
    code = (
        "import sys, gzkern.cuda.operations; "
        "print(sorted(set(sys.modules) & {'cupy', 'numba', 'scipy', 'gzkern.cpu', 'gzkern.runtime.emulator'}))"
    )
    assert run(code).strip() == "[]"


def stems(folder, pattern="*.py"):
    """Paths of files in a folder of the project without suffix, such as ``conv2d/forward``."""
    root = ROOT / folder
    paths = (path.relative_to(root).with_suffix("") for path in root.rglob(pattern))
    return {path.as_posix() for path in paths} - {"__init__", "conv2d/__init__", "dense/__init__"}


OPERATIONS = sorted(field.name for field in fields(Operations))
KERNELS_ALONE = sorted({field.name for field in fields(KernelOperations)} - set(OPERATIONS))
NOT_ON_THE_TAPE = {"nesterov", "nan_guard", "step_counter"}
SHARED = {
    *("conv2d/operation", "conv2d/choice", "conv2d/algorithm", "conv2d/epilogue", "conv2d/tile", "conv2d/wgmma"),
    *("dense/backward", "dense/launches", "dense/mma"),
}
"""Modules of cuda/ that several kernel files share."""


def test_one_name_an_operation():
    """An operation has one name in cpu/, cuda/, ops/, kernels/ and the tests: a file, or a folder of its passes."""
    bindings = stems("gzkern/cuda") - SHARED - {"operations"}
    assert bindings >= {stem for stem in source.stems() if "/" not in stem}
    assert {stem for stem in bindings if "/" in stem} <= set(source.stems())
    assert {operation_of(stem) for stem in source.stems()} == {*OPERATIONS, *KERNELS_ALONE}
    cpu = {stem for stem in stems("gzkern/cpu") if "/" not in stem}
    assert cpu - {"operations", "workspace", "first_compile_notice"} == set(OPERATIONS)
    assert stems("gzkern/ops") == set(OPERATIONS) - NOT_ON_THE_TAPE
    tests = {Path(stem).name.removeprefix("test_") for stem in stems("tests", "test_*.py")}
    elementwise = {"relu", "maxpool2d", "maxout", "mse", "nan_guard", "step_counter"}  # short, and proved together
    assert set(OPERATIONS) - elementwise <= tests
    cases = {Path(stem).name.removeprefix("cases_") for stem in stems("tests/kernels", "cases_*.py")}
    cases -= stems("tests/kernels", "*.cu")  # kernels of the tests alone
    assert set(OPERATIONS) <= cases <= {*OPERATIONS, *(stem.replace("/", "_") for stem in source.stems())}
    jit = stems("gzkern/cpu/jit") - {"tiles", "philox"}
    assert jit <= set(OPERATIONS)


def operation_of(stem):
    """The operation of kernels/<stem>.cu."""
    return stem.partition("/")[0]


def functions_of(table):
    """(operation, name, function) of every callable in a device's table."""
    for operation in OPERATIONS:
        group = getattr(table, operation)
        for field in fields(group):
            yield operation, field.name, getattr(group, field.name)


def test_tables_hold_the_functions_that_they_name():
    for table, package in ((CPU, "gzkern.cpu"), (CUDA, "gzkern.cuda")):
        for operation, name, function in functions_of(table):
            assert function.__name__ == name
            module = f"{package}.{operation}"
            assert function.__module__ in (module, f"{module}.operation", f"{module}.{name}")


def parameters(function):
    return [(p.name, p.kind, p.default) for p in inspect.signature(function).parameters.values()]


def test_devices_have_the_same_functions():
    for (operation, name, cpu), (_, _, cuda) in zip(functions_of(CPU), functions_of(CUDA), strict=True):
        assert parameters(cpu) == parameters(cuda), f"{operation}.{name}"


def bound(value):
    """The kernels in a module, however deep in dictionaries."""
    if isinstance(value, Kernel):
        yield value.file, value.name
    elif isinstance(value, Algorithm):
        yield from bound(value.kernels)
    elif isinstance(value, Ladder):
        yield from bound(value.versions)
    elif isinstance(value, dict):
        for inner in value.values():
            yield from bound(inner)


def test_every_kernel_is_bound_and_every_binding_is_a_kernel():
    kernels = {(stem, name) for stem in source.stems() for name in source.load(stem).kernels}
    bindings = {}
    for stem in stems("gzkern/cuda") - {"conv2d/choice", "conv2d/operation"}:  # list those of others
        for value in vars(importlib.import_module(f"gzkern.cuda.{stem.replace('/', '.')}")).values():
            bindings.update(dict.fromkeys(bound(value), stem))
    assert bindings.keys() == kernels
    for (stem, name), module in bindings.items():
        flat = stem.replace("/", "_")
        assert module == stem or (module in SHARED and stem.startswith(module)), f"{module} binds {name} of {stem}.cu"
        assert name == flat or name.startswith(f"{flat}_"), f"kernels/{stem}.cu: {name}"


def test_the_index_of_kernels_is_complete():
    index = set(re.findall(r"\]\(([\w/]+\.cuh?)\)", (ROOT / "kernels" / "README.md").read_text()))
    files = (path for pattern in ("*.cu", "*.cuh") for path in (ROOT / "kernels").rglob(pattern))
    assert index == {path.relative_to(ROOT / "kernels").as_posix() for path in files}


def test_every_kernel_is_proved(monkeypatch):
    """At least one case a kernel, and one that make test runs."""
    monkeypatch.syspath_prepend(ROOT / "tests" / "kernels")
    cases = importlib.import_module("collect").all_cases()
    kernels = {name for stem in source.stems() for name in source.load(stem).kernels}
    assert kernels <= {case.kernel for case in cases}
    assert kernels <= {case.kernel for case in cases if case.quick}


def test_exports_exist():
    for name in gzkern.__all__:
        assert getattr(gzkern, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = gzkern.nothing
    assert importlib.util.find_spec("gzkern.training")
