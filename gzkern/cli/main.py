"""The command line: the parser, and what errors and interrupts become.

Each command is a module of this folder, and imports the heavy modules that it needs when it runs.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
from collections.abc import Sequence

from .. import __version__
from ..errors import GzkernError
from . import demo_data, evaluate, info, pack, predict, recentre, train, warmup
from . import list as list_command
from .command import FAILED, Help


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0 done, 1 failed or some inputs skipped, 2 bad input."""
    options = _parser().parse_args(arguments)
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # a batch system's stop is a Ctrl-C
    try:
        return int(options.command(options))
    except GzkernError as error:
        return _complain(str(error), error.exit_code)
    except KeyboardInterrupt:
        return _complain("interrupted; no file was left half-written", FAILED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # keeps the interpreter's exit quiet
        return FAILED
    except MemoryError:
        return _complain("out of memory; take a smaller --batch or a pack in place of a folder", FAILED)
    except OSError as error:
        return _complain(f"{error.filename or 'system'}: {error.strerror or error}", FAILED)


def _complain(message: str, code: int) -> int:
    print(f"gzkern: {message}", file=sys.stderr)
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="gzkern",
        formatter_class=Help,
        description="Train the network that won the Galaxy Challenge, and predict what volunteers would answer\n"
        "about your galaxies: 37 probabilities an image.",
        epilog="Start:  gzkern demo-data demo --count 400\n"
        "        gzkern train --data demo --out run --config laptop\n"
        "        gzkern predict run demo/images_training_rev1 --out answers.csv",
    )
    parser.add_argument("--version", action="version", version=f"gzkern {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    for command in (train, evaluate, predict, pack, recentre, demo_data, list_command, info, warmup):
        command.add_parser(commands)
    return parser
