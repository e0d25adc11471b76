"""How a benchmark ends as a command: its exit code, and one sentence where it cannot go on."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from gzkern.errors import GzkernError, InputError


def module_name(program: Path) -> str:
    """Name the module of a command, ``benchmarks.<name>``: a file, or a package's ``__main__``."""
    return f"benchmarks.{program.parent.name if program.stem == '__main__' else program.stem}"


def call(main: Callable[[], int]) -> NoReturn:
    """Run a command: 2 for bad input, 130 after Ctrl-C, 1 where something fails that is no bug."""
    name = module_name(Path(sys.argv[0]))
    try:
        code = main()
        sys.stdout.flush()
    except KeyboardInterrupt:
        code = _say(name, "stopped; what was measured before is above, and in the file that was asked for", 130)
    except GzkernError as error:
        code = _say(name, str(error), 2 if isinstance(error, InputError) else 1)
    except MemoryError as error:
        code = _say(name, f"{error or 'out of memory'}; take a smaller --batch", 2)
    except BrokenPipeError:  # of `| head`: whoever reads has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    except OSError as error:
        code = _say(name, str(error), 1)
    sys.exit(code)


def _say(name: str, sentence: str, code: int) -> int:
    print(f"{name}: {sentence}", file=sys.stderr)
    return code
