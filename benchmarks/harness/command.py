"""A benchmark as a command: its name, its parser, its exit code, and one sentence where it cannot go on."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from gzkern.errors import GzkernError, InputError


def module_name() -> str:
    """Name the module that Python was started with, such as ``benchmarks.conv``; a script by its file."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    return spec.name.removesuffix(".__main__") if spec else Path(sys.argv[0]).stem


def new_parser(module: str, doc: str | None) -> argparse.ArgumentParser:
    """Return the parser of the command ``python -m <module>``, whose help begins with the module's docstring."""
    return argparse.ArgumentParser(
        prog=f"python -m {module}", description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )


def call(main: Callable[[], int]) -> NoReturn:
    """Run a command and exit: 2 for bad input, 130 after Ctrl-C, 1 where something fails that is no bug."""
    try:
        code = main()
        sys.stdout.flush()
    except KeyboardInterrupt:
        code = _say("stopped; what was measured before is above, and in the file that was asked for", 130)
    except GzkernError as error:
        code = _say(str(error), 2 if isinstance(error, InputError) else 1)
    except MemoryError as error:
        code = _say(f"{error or 'out of memory'}; take a smaller --batch", 2)
    except BrokenPipeError:  # the reader of a pipe, such as head, has closed it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    except OSError as error:
        code = _say(str(error), 1)
    sys.exit(code)


def _say(sentence: str, code: int) -> int:
    print(f"{module_name()}: {sentence}", file=sys.stderr)
    return code
