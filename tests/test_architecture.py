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
from pathlib import Path

import pytest

from gzkern.cuda import source
from gzkern.cuda.launch import Kernel

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "gzkern"

# Upper layers first; a module may import from its own layer and from those below.
LAYERS = [
    ("cli", "__main__"),
    ("training", "evaluation", "info", "chosen", "memory"),
    ("prediction",),
    ("run",),
    ("steps",),
    ("feeding",),
    ("models", "augment", "data", "checkpoint", "environment"),
    ("nn",),
    ("ops",),
    ("autograd",),
    ("device",),
    ("cpu", "cuda", "emulator"),
    (
        "compiling",
        "mask",
        "update",
        "bfloat16",
        "decision_tree",
        "config",
        "shapes",
        "check",
        "cache",
        "files",
        "processes",
    ),
    ("errors",),
]
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}
# Imports inside functions that look upwards by design: a thin method over a function of an upper layer.
LAZY = {("run", "prediction")}
# Neighbours in their layer that do not know each other.
APART = {("cpu", "cuda"), ("cuda", "cpu"), ("cpu", "emulator"), ("emulator", "cpu")}


def modules():
    return [path for path in sorted(PACKAGE.rglob("*.py")) if path != PACKAGE / "__init__.py"]


def imports(path):
    """(imported top-level name inside gzkern or elsewhere, whether at module level) of a file."""
    tree = ast.parse(path.read_text())
    top = {id(node) for node in tree.body}
    depth = len(path.relative_to(PACKAGE).parts)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, id(node) in top) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            if node.level == 0:
                yield node.module, id(node) in top
            elif node.level == depth:
                names = [node.module.split(".")[0]] if node.module else [alias.name for alias in node.names]
                yield from ((f"gzkern.{name}", id(node) in top) for name in names if name != "__version__")


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_go_down(path):
    part = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    assert part in RANK, f"{part} has no layer; add it to LAYERS"
    for name, _ in imports(path):
        if name.startswith("gzkern."):
            below = name.removeprefix("gzkern.")
            assert (part, below) in LAZY or RANK[below] >= RANK[part], f"{path}: {part} imports {below}"
            assert (part, below) not in APART, f"{path}: {part} imports {below}"


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_forbidden_imports(path):
    names = {name.split(".")[0] for name, _ in imports(path)}
    assert not names & {"torch", "cudnn", "benchmarks", "pandas"}, path
    if path not in {PACKAGE / "cuda" / f"{name}.py" for name in ("device", "nvrtc", "streams")}:
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


def test_importing_the_package_imports_nothing_heavy():
    code = (
        "import sys, gzkern; gzkern.load_config('laptop'); "
        "print(sorted(set(sys.modules) & {'numba', 'pandas', 'skimage', 'matplotlib', 'cupy', 'scipy', 'numpy'}))"
    )
    assert run(code).strip() == "[]"


def test_help_imports_nothing_heavy():
    code = (
        "import sys; from gzkern.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "print(sorted(set(sys.modules) & {'numba', 'numpy', 'PIL', 'scipy', 'tqdm'}))"
    )
    assert run(code).splitlines()[-1] == "[]"


def test_importing_the_bindings_imports_nothing_heavy():
    """Neither CuPy nor the compiler of either CPU device: they come with the first launch."""
    names = " ".join(f"gzkern.cuda.{name}," for name in sorted(stems("cuda"))).rstrip(",")
    code = (
        f"import sys, {names}; "
        "print(sorted(set(sys.modules) & {'cupy', 'numba', 'scipy', 'gzkern.cpu', 'gzkern.emulator'}))"
    )
    assert run(code).strip() == "[]"


def stems(folder):
    return {path.stem for path in (PACKAGE / folder).glob("*.py")} - {"__init__"}


OPERATIONS = sorted(stems("cpu") - {"workspace"})
NOT_ON_THE_TAPE = {"nesterov", "finite", "progress"}
KERNELS_ALONE = {"warp", "take", "widen"}
"""What feeds a step on a device, as gzkern.augment does on the CPU, and what bfloat16 needs."""


def test_one_name_an_operation():
    """cpu/X.py, cuda/X.py, ops/X.py, kernels/X.cu or X_<pass>.cu, test_X.py and cases_X.py go together.

    cuda/X_<pass>.py is the binding of kernels/X_<pass>.cu where an operation has one a file.
    """
    operations = set(OPERATIONS)
    bindings = stems("cuda") - {"source", "launch", "graph", "device", "streams", "nvrtc"}
    bindings -= {"conv2d_common", "conv2d_tile", "conv2d_wgmma", "dense_common", "dense_tensor"}
    assert operations <= bindings
    assert bindings - operations <= set(source.stems())
    assert stems("ops") == operations - NOT_ON_THE_TAPE
    assert {operation_of(stem) for stem in source.stems()} == operations | KERNELS_ALONE
    tests = {path.stem.removeprefix("test_") for path in (ROOT / "tests").glob("test_*.py")}
    elementwise = {"relu", "maxpool2d", "maxout", "mse", "finite", "progress"}  # a line or two each, proved together
    assert operations - elementwise <= tests
    folder = ROOT / "tests" / "kernels"
    cases = {path.stem.removeprefix("cases_") for path in folder.glob("cases_*.py")}
    cases -= {path.stem for path in folder.glob("*.cu")}  # kernels of the tests alone
    assert operations <= cases <= operations | set(source.stems())
    jit = {path.stem for path in (PACKAGE / "cpu" / "jit").glob("*.py")} - {"__init__", "tiles", "philox"}
    assert jit <= operations


def operation_of(stem):
    """The operation of kernels/<stem>.cu; the stem itself if it belongs to none."""
    return next((name for name in OPERATIONS if stem == name or stem.startswith(f"{name}_")), stem)


def called_on_devices():
    """(operation, function) of every call ``<device>.<operation>.<function>`` in the package, in ops/ by ``op``."""
    for path in modules():
        if path.relative_to(PACKAGE).parts[0] in ("cpu", "cuda"):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute):
                if isinstance(node.value, ast.Attribute) and node.value.attr in OPERATIONS:
                    yield node.value.attr, node.attr
                elif isinstance(node.value, ast.Name) and node.value.id == "op":
                    yield path.stem, node.attr


def public_functions(module):
    functions = inspect.getmembers(module, inspect.isfunction)
    return {name: f for name, f in functions if f.__module__ == module.__name__ and not name.startswith("_")}


def parameters(function):
    return [(p.name, p.kind, p.default) for p in inspect.signature(function).parameters.values()]


@pytest.mark.parametrize("operation", OPERATIONS)
def test_devices_have_the_same_functions(operation):
    """What a device is asked for exists on both kinds, with equal parameters and defaults."""
    cpu, cuda = (public_functions(importlib.import_module(f"gzkern.{kind}.{operation}")) for kind in ("cpu", "cuda"))
    called = {function for name, function in called_on_devices() if name == operation}
    assert called, f"nothing in the package calls {operation}"
    assert called <= cpu.keys() & cuda.keys()
    for name in cpu.keys() & cuda.keys():
        assert parameters(cpu[name]) == parameters(cuda[name]), f"{operation}.{name}"


def bound(value):
    """The kernels in a module, however deep in dictionaries."""
    if isinstance(value, Kernel):
        yield value.file, value.name
    elif isinstance(value, dict):
        for inner in value.values():
            yield from bound(inner)


def test_every_kernel_is_bound_and_every_binding_is_a_kernel():
    kernels = {(stem, name) for stem in source.stems() for name in source.load(stem).kernels}
    bindings = {}
    for module in stems("cuda"):
        for value in vars(importlib.import_module(f"gzkern.cuda.{module}")).values():
            bindings.update(dict.fromkeys(bound(value), module))
    assert bindings.keys() == kernels
    for (stem, name), module in bindings.items():
        expected = stem if module in source.stems() else operation_of(stem)
        assert expected == module, f"gzkern/cuda/{module}.py binds {name} of kernels/{stem}.cu"
        assert name == stem or name.startswith(f"{stem}_"), f"kernels/{stem}.cu: {name}"


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
    import gzkern

    for name in gzkern.__all__:
        assert getattr(gzkern, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = gzkern.nothing
    assert importlib.util.find_spec("gzkern.training")
