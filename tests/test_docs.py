"""The documents name what is there: files, links, modules, commands, flags."""

import contextlib
import importlib
import io
import json
import re
from fnmatch import fnmatch
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import pytest

from gzkern.cli.main import main as gzkern

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", ROOT / "kernels" / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
TEXTS = {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in DOCUMENTS}
each_document = pytest.mark.parametrize("name", TEXTS)

MEASURED_ON_A_GPU = "benchmarks/results/*_cuda.json"
"""Results that a command in the documents writes, and that nobody has written yet."""


@each_document
def test_links_lead_somewhere(name):
    targets = re.findall(r"\]\(([^)\s#]+)[^)]*\)", TEXTS[name])
    missing = [each for each in targets if "://" not in each and not (ROOT / name).parent.joinpath(each).exists()]
    assert missing == []


@each_document
def test_files_exist(name):
    paths = re.findall(r"(?<![\w./-])(?:gzkern|kernels|benchmarks|tests|docs)/[\w./*<>-]*", TEXTS[name])
    patterns = {re.sub(r"<\w+>|\bX\b", "*", path).rstrip(".-") for path in paths}
    missing = [each for each in patterns if not fnmatch(each, MEASURED_ON_A_GPU) and not any(ROOT.glob(each))]
    assert missing == []


@each_document
def test_names_of_the_package_exist(name):
    names = set(re.findall(r"(?<![\w/.-])gzkern(?:\.[A-Za-z_]\w*)+", TEXTS[name]))
    assert [each for each in names if resolved(each) is None] == []


def resolved(dotted):
    """The module or attribute of a dotted name; None where there is none."""
    found = importlib.import_module("gzkern")
    parts = dotted.split(".")
    for count, part in enumerate(parts[1:], 2):
        if not hasattr(found, part):
            with contextlib.suppress(ImportError):
                importlib.import_module(".".join(parts[:count]))
        found = getattr(found, part, None)
    return found


@each_document
def test_commands_of_benchmarks_have_these_flags(name):
    for module, flags in calls(TEXTS[name], "python -m "):
        if module.startswith("benchmarks."):
            assert not flags - flags_of(command(module)), f"python -m {module}"


@each_document
def test_gzkern_has_these_flags(name):
    for subcommand, flags in calls(TEXTS[name], "gzkern "):
        if flags and subcommand != "COMMAND":
            assert not flags - flags_of(gzkern, subcommand), f"gzkern {subcommand}"


@pytest.mark.parametrize("path", sorted((ROOT / "benchmarks" / "results").rglob("*.json")), ids=lambda path: path.stem)
def test_results_name_the_command_that_repeats_them(path):
    python, option, module, *_ = json.loads(path.read_text(encoding="utf-8"))["command"].split()
    assert (python, option) == ("python", "-m")
    if module != "pytest":
        assert command(module)


def calls(text, program):
    """(first word, flags) of every call of a program; a line may go on behind a backslash."""
    for line in re.findall(rf"{program}([^\n`#(]+)", re.sub(r"\\\n\s*", "", text)):
        first, *words = line.split()
        yield first.rstrip(".,;:"), {word.partition("=")[0] for word in words if word.startswith("--")}


def command(module):
    """The main function of a benchmark that is called by ``python -m``."""
    spec = find_spec(module)
    assert spec, f"python -m {module}: there is no such module"
    if spec.submodule_search_locations:
        module += ".__main__"
    return importlib.import_module(module).main


@cache
def flags_of(main, *subcommands):
    """The flags that the help of a command lists."""
    text = io.StringIO()
    with contextlib.redirect_stdout(text), contextlib.suppress(SystemExit):
        main([*subcommands, "--help"])
    return set(re.findall(r"--[a-z][\w-]*", text.getvalue()))
