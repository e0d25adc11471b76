"""The walls: imports go down only, heavy packages stay out of the package's import, one name an operation."""

import ast
import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "gzkern"

# Upper layers first; a module may import from its own layer and from those below.
LAYERS = [
    ("cli", "__main__"),
    ("training", "evaluation"),
    ("prediction",),
    ("run",),
    ("models", "augment", "data", "checkpoint", "environment"),
    ("nn",),
    ("ops",),
    ("autograd",),
    ("device",),
    ("cpu",),
    ("decision_tree", "config", "shapes", "check", "files"),
    ("errors",),
]
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}
# Imports inside functions that look upwards by design: a thin method over a function of an upper layer.
LAZY = {("run", "prediction")}


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


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_forbidden_imports(path):
    names = {name.split(".")[0] for name, _ in imports(path)}
    assert not names & {"torch", "cudnn", "benchmarks", "pandas"}, path
    part = path.relative_to(PACKAGE).parts[0]
    if part in ("data", "augment"):
        assert "cupy" not in names
    at_top = {name.split(".")[0] for name, top in imports(path) if top}
    if path.name != "jit.py" and "jit" not in path.parts:
        assert not at_top & {"numba", "llvmlite", "skimage", "matplotlib", "cupy", "pyarrow"}, path


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


def test_one_name_an_operation():
    """cpu/X.py, ops/X.py and tests/test_X.py go together; nesterov has no op on the tape."""
    cpu = {p.stem for p in (PACKAGE / "cpu").glob("*.py")} - {"__init__", "workspace"}
    ops = {p.stem for p in (PACKAGE / "ops").glob("*.py")} - {"__init__"}
    assert cpu - ops == {"nesterov"}
    assert ops <= cpu
    tests = {p.stem.removeprefix("test_") for p in (ROOT / "tests").glob("test_*.py")}
    elementwise = {"relu", "maxpool2d", "maxout", "mse"}  # a line or two each, proved together
    assert cpu - elementwise <= tests
    jit = {p.stem for p in (PACKAGE / "cpu" / "jit").glob("*.py")} - {"__init__", "tiles", "philox"}
    assert jit <= cpu


def test_exports_exist():
    import gzkern

    for name in gzkern.__all__:
        assert getattr(gzkern, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = gzkern.nothing
    assert importlib.util.find_spec("gzkern.training")
