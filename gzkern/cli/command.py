"""A command's parser, exit codes, and the list of inputs that it skipped: the frame that all commands share."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import TypeAlias

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"
"""The commands of the parser, to which each adds its own."""

DONE, FAILED = 0, 1


class Help(argparse.RawDescriptionHelpFormatter):
    """Help pages of 100 columns, their line breaks as written."""

    def __init__(self, prog: str):
        super().__init__(prog, max_help_position=28, width=100)


def add_command(
    commands: Commands, name: str, execute: Callable[[argparse.Namespace], int], summary: str, detail: str
) -> argparse.ArgumentParser:
    """Add the parser of a command, which ``execute`` carries out; that returns the exit code."""
    parser = commands.add_parser(name, help=summary, description=f"{summary}\n\n{detail}", formatter_class=Help)
    parser.set_defaults(command=execute)
    return parser


def print_skipped(skipped: Sequence[tuple[object, str, str]]) -> bool:
    """List the inputs that were left out, on stderr; True if there are any."""
    from ..data.quarantine import describe_skipped

    for line in describe_skipped(skipped):
        print(f"gzkern: {line}", file=sys.stderr)
    return bool(skipped)
