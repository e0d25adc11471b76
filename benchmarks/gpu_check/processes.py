"""Items as processes: each with a limit, its output in a file, and nothing of it left when it ends."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from gzkern.core.processes import cores

from ..harness.report import LATE
from .plan import Item
from .schedule import CRASHED, FAILED, INCOMPLETE, PASSED, TIMED_OUT, Result

ROOT = Path(__file__).parents[2]
_TAIL = 4000  # characters of an item's output that are kept
_THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")  # of an item, so that all have cores
_PATIENCE = 5  # seconds for a killed process to be gone; one that hangs in the driver stays
_PROBE = 20  # seconds for the GPU to answer
_ANSWER = (
    "import numpy as np; from gzkern.runtime.cuda_backend import backend; "
    "backend().asnumpy(backend().asarray(np.ones(9)))"
)


class Processes:
    """Runs items as processes.

    Args:
        scratch: folder for what they write.
    """

    def __init__(self, scratch: Path):
        self._scratch, self._begin = scratch, time.monotonic()
        self._running: set[subprocess.Popen[bytes]] = set()
        self._threads = cores()
        self._stopped = False

    def now(self) -> float:
        """See ``schedule.Runner``."""
        return time.monotonic() - self._begin

    def missing(self, item: Item) -> str | None:
        """See ``schedule.Runner``."""
        return item.missing()

    def run(self, items: Sequence[tuple[Item, float]]) -> Iterator[Result]:
        """See ``schedule.Runner``."""
        self._threads = max(2, cores() // len(items))
        with ThreadPoolExecutor(len(items)) as threads:
            try:
                for future in as_completed([threads.submit(self._run, *each) for each in items]):
                    yield future.result()
            except BaseException:  # an interrupt too: the threads end with the processes that they wait for
                self._stopped = True
                for process in list(self._running):
                    _kill(process)
                raise

    def gpu_answers(self) -> bool:
        """See ``schedule.Runner``."""
        code, _ = self._finish([sys.executable, "-c", _ANSWER], _PROBE, self._scratch / "probe.log")
        return code == 0

    def _run(self, item: Item, limit: float) -> Result:
        results, log = (self._scratch / f"{item.name}.{suffix}" for suffix in ("json", "log"))
        command, begin = item.arguments(limit, results), self.now()
        print(f"{begin:6.1f} s  {item.name} …", flush=True)
        code, output = self._finish(command, limit, log)
        found = _read(results)
        status = TIMED_OUT if code is None else FAILED if code > 0 else CRASHED if code < 0 else PASSED
        if status == PASSED and _is_cut_short(found, output):
            status = INCOMPLETE
        why = f" by {signal.Signals(-code).name}" if status == CRASHED and code else ""
        print(f"{self.now():6.1f} s  {item.name}: {status}{why}", flush=True)
        return {
            **{"name": item.name, "status": status, "reason": why.strip() or None},
            **{"begin": round(begin, 1), "seconds": round(self.now() - begin, 1), "limit": round(limit, 1)},
            "command": command,
            "output": output if item.name == "info" else output[-_TAIL:],
            "results": found,
        }

    def _finish(self, command: Sequence[str], seconds: float, log: Path) -> tuple[int | None, str]:
        """Run a command to its end; its exit code, None where it ran out of time, and what it printed.

        Output goes to a file: at the end of a pipe one would wait for every process that holds it.
        """
        environment = {**os.environ, "GZKERN_REQUIRE": "gpu", "PYTHONUNBUFFERED": "1", "PYTHONFAULTHANDLER": "1"}
        environment |= dict.fromkeys(_THREADS, str(self._threads))
        code: int | None = None
        with log.open("wb") as file:
            try:
                process = subprocess.Popen(
                    command,
                    cwd=ROOT,
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=file,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,  # so that its children end with it
                )
            except OSError as error:
                return 127, str(error)
            self._running.add(process)
            try:
                code = process.wait(0 if self._stopped else seconds)
            except subprocess.TimeoutExpired:
                pass
            finally:
                self._running.remove(process)
                _kill(process)
        return code, log.read_text(encoding="utf-8", errors="replace")


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End a process and all of its session, also what is in groups of its own, as far as they can be ended."""
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            if int(fields[3]) == process.pid:
                os.kill(int(folder.name), signal.SIGKILL)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_PATIENCE)


def _is_cut_short(results: Any, output: str) -> bool:
    """Say whether an item ended by itself before it was done, since its budget was spent."""
    rows = results.get("rows", []) if isinstance(results, dict) else []
    late = any(LATE in (row.get("failed"), row.get("missing")) for row in rows)
    return late or "--stop-after" in output or "were not reached" in output


def _read(path: Path) -> Any:
    """Read what an item wrote; None where that is no whole JSON file."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
