"""Worker processes: their answers, their errors, and that none outlives who asked."""

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from child_processes import children

from gzkern.core.processes import WorkerDied, Workers
from gzkern.errors import GzkernError, InputError


def double(number):
    return 2 * number, os.getpid()


def fail(kind):
    if kind == "ours":
        raise InputError("a sentence")
    if kind == "unpicklable":
        raise type("Local", (Exception,), {})("of a class that nobody else knows")
    os._exit(3)


def test_threads_ask_at_once_and_each_gets_its_answer():
    before = children()
    with Workers(double, 3) as workers, ThreadPoolExecutor(8) as threads:
        assert len(children() - before) == 3
        answers = list(threads.map(workers.ask, range(40)))
    assert [answer for answer, _ in answers] == [2 * number for number in range(40)]
    assert os.getpid() not in {process for _, process in answers}
    assert children() == before


def test_an_error_of_the_function_reaches_who_asked():
    with Workers(fail, 1) as workers:
        with pytest.raises(InputError, match=r"^a sentence$"):
            workers.ask("ours")
        with pytest.raises(GzkernError, match=r"^Local: of a class that nobody else knows$"):
            workers.ask("unpicklable")
        for _ in range(2):  # and a thread that asks later does not wait for ever
            with pytest.raises(WorkerDied):
                workers.ask("dies")


PROGRAM = """
import sys, time
from gzkern.core.processes import Workers
with Workers(time.sleep, 2) as workers:
    print("going", flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_no_worker_outlives_its_asker(how):
    """A worker that is idle ends with its input; the script needs no guard."""
    process = subprocess.Popen([sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "going\n"
    workers = children(process.pid)
    assert len(workers) == 2
    process.send_signal(how)
    process.wait()
    deadline = time.monotonic() + 10
    while any(os.path.exists(f"/proc/{pid}") for pid in workers):
        assert time.monotonic() < deadline
        time.sleep(0.05)
