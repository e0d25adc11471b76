"""The command that lists decision trees, presets and settings."""

from __future__ import annotations

import argparse
import json
import textwrap
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from .command import DONE, Commands, add_command

if TYPE_CHECKING:
    from ..config import Setting
    from ..decision_trees.tree import DecisionTree, Question

_WIDTH, _COLUMN = 100, 34


def add_parser(commands: Commands) -> None:
    """Add ``gzkern list``."""
    parser = add_command(
        commands,
        "list",
        execute,
        "List decision trees, presets or settings.",
        "trees     every question with its answers, the column of each answer, and when it is asked\n"
        "presets   the configurations that --config takes by name, and how they differ from paper\n"
        "settings  every key that --set takes, with its default and what it means\n\n"
        "What the values in the columns mean: docs/answers.md.",
    )
    parser.add_argument("what", choices=("trees", "presets", "settings"))
    parser.add_argument("name", nargs="?", metavar="NAME|FILE", help="only this tree, preset or settings of a section")


def execute(options: argparse.Namespace) -> int:
    """Print the list."""
    lines = {"trees": _trees, "presets": _presets, "settings": _settings}[options.what]
    print("\n".join(lines(options.name)))
    return DONE


def _trees(name: str | None) -> Iterator[str]:
    from ..decision_trees.tree import load_tree, trees

    for number, source in enumerate(trees() if name is None else [name]):
        tree = load_tree(source)
        if number:
            yield ""
        yield f"{tree.name}: {len(tree.questions)} questions, {len(tree)} answers; → names the questions asked next"
        for question in tree.questions:
            yield ""
            yield f"  Q{question.id}  {question.text}"
            yield f"      {_asked(tree, question)}"
            for column, answer in zip(tree.columns[question.columns], question.answers, strict=True):
                yield f"      {column:<10}  {answer}{_leads_to(tree, column)}"


def _asked(tree: DecisionTree, question: Question) -> str:
    """Say when a question is asked, and what its answers sum to."""
    if question.parent is None:
        return "asked for every image; its answers sum to 1"
    before = tree.questions[tree.question_of[question.parent]]
    answer, column = before.answers[question.parent - before.start], tree.columns[question.parent]
    return f'asked after "{answer}" to Q{before.id}; its answers sum to {column}'


def _leads_to(tree: DecisionTree, column: str) -> str:
    number = tree.columns.index(column)
    following = [f"Q{question.id}" for question in tree.questions if question.parent == number]
    return f"  → {', '.join(following)}" if following else ""


def _presets(name: str | None) -> Iterator[str]:
    from ..config import describe_preset, load_config, presets, settings

    if name is not None and name not in presets():
        raise InputError(f"preset {name!r}: expected one of {', '.join(presets())}")
    for preset in presets() if name is None else [name]:
        yield f"{preset}: {describe_preset(preset)}"
        for setting in settings(load_config(preset)):
            if setting.value != setting.default:
                yield f"    {setting.key} = {_toml(setting.value)}"


def _settings(name: str | None) -> Iterator[str]:
    from ..config import Config, settings

    sections: dict[str, list[Setting]] = {}
    for setting in settings(Config()):
        sections.setdefault(setting.key.partition(".")[0], []).append(setting)
    if name is not None and name not in sections:
        raise InputError(f"section {name!r}: expected one of {', '.join(sections)}")
    yield "Key = default (as published): meaning. Change one by: gzkern train --set KEY=VALUE"
    for section in sections if name is None else [name]:
        yield ""
        for setting in sections[section]:
            yield from _item(f"{setting.key} = {_toml(setting.default)}", setting.meaning)


def _item(name: str, text: str) -> list[str]:
    """A name, and its text in a column beside it, or below where the name is long."""
    indent = " " * _COLUMN
    lines = textwrap.wrap(text, _WIDTH, initial_indent=indent, subsequent_indent=indent)
    if len(name) < _COLUMN - 1:
        lines[0] = name.ljust(_COLUMN) + lines[0][_COLUMN:]
        return lines
    return [name, *lines]


def _toml(value: Any) -> str:
    """A setting's value as ``--set`` takes it: of these types TOML is JSON."""
    return json.dumps(value)
