"""The cores of this machine, and worker processes that use them for work that holds a lock of its process.

A worker is a program of its own. The children of multiprocessing run the user's script again, where that has no guard.
A worker ends when its input does, so none outlives the process that asks, however that ends.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from queue import SimpleQueue
from typing import Any

from ..errors import GzkernError


def cores() -> int:
    """Count the cores of this machine that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def free_memory() -> int:
    """Bytes of this machine's memory that nobody uses."""
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


class WorkerDied(GzkernError):
    """A worker ended without an answer: killed, or out of memory."""


class Workers:
    """Processes that call a function; threads of this process may ask at once, each gets a worker of its own.

    Args:
        function: of a module; called as ``function(*question)``. Its arguments and its result are pickled.
        count: of the processes. More threads than that wait for their turn.
    """

    def __init__(self, function: Callable[..., Any], count: int):
        self._module, self._name, self._count = function.__module__, function.__name__, count
        self._idle: SimpleQueue[subprocess.Popen[bytes]] = SimpleQueue()
        self._processes: list[subprocess.Popen[bytes]] = []
        self._pipes = ExitStack()

    def __enter__(self) -> Workers:
        code = f"from {__name__} import serve; from {self._module} import {self._name}; serve({self._name})"
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        try:
            for _ in range(self._count):
                process = subprocess.Popen(
                    [sys.executable, "-P", "-c", code],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    bufsize=0,
                    env=environment,
                    process_group=0,  # an interrupt is for this process, which ends the others
                )
                self._pipes.enter_context(process)
                self._processes.append(process)
                self._idle.put(process)
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self._end()

    def ask(self, *question: Any) -> Any:
        """Return the function's result for a question.

        Raises:
            WorkerDied: the process that was asked has died.
            Exception: what the function raised.
        """
        process = self._idle.get()
        assert process.stdin
        assert process.stdout
        try:
            pickle.dump(question, process.stdin, pickle.HIGHEST_PROTOCOL)
            answer, error = pickle.load(process.stdout)
        except (OSError, EOFError, pickle.UnpicklingError):
            raise WorkerDied("a worker process has died") from None
        finally:
            self._idle.put(process)
        if error is not None:
            raise error
        return answer

    def _end(self) -> None:
        for process in self._processes:
            process.kill()
        self._pipes.close()


def serve(function: Callable[..., Any]) -> None:
    """Answer the questions on standard input, in a worker, until there are no more."""
    while True:
        try:
            question = pickle.load(sys.stdin.buffer)
            try:
                reply: tuple[Any, Exception | None] = function(*question), None
            except Exception as error:  # of any kind: the other side must hear of it
                reply = None, error if _can_be_pickled(error) else GzkernError(f"{type(error).__name__}: {error}")
            pickle.dump(reply, sys.stdout.buffer, pickle.HIGHEST_PROTOCOL)
            sys.stdout.buffer.flush()
        except (EOFError, OSError, pickle.UnpicklingError):  # who asked is gone, perhaps in mid-sentence
            os._exit(0)  # without another try to write what nobody reads


def _can_be_pickled(error: Exception) -> bool:
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return False
    return True
