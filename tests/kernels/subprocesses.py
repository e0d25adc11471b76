"""Scripts under a sanitizer, several at a time."""

import os
import subprocess
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache

import pytest

from gzkern.errors import InputError
from gzkern.runtime.emulator import sanitizers


@cache
def obstacle(mode: str) -> str | None:
    """Why the sanitizer cannot start on this machine."""
    try:
        process = run(mode, "-c", "import numpy; print('started')")
    except InputError as error:
        return str(error)
    return None if "started" in process.stdout else f"{mode} does not start here: {process.stdout[-500:]}"


def require(mode: str) -> None:
    if reason := obstacle(mode):
        pytest.skip(reason)


def run(mode: str, *arguments: str) -> subprocess.CompletedProcess:
    """Python with these arguments under a sanitizer; ``stdout`` holds all that it said."""
    command = sanitizers.command(mode, *arguments)
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=900)


def start_all(commands: dict[tuple, tuple[str, ...]]) -> dict[tuple, Future]:
    """Run commands (mode, arguments of Python …), one a core at a time."""
    pool = ThreadPoolExecutor(os.cpu_count())
    futures = {key: pool.submit(run, *command) for key, command in commands.items()}
    pool.shutdown(wait=False)
    return futures
