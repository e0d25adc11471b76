"""A crew: tasks in order, as far as allowed, whatever happens to reader, threads and process."""

import gc
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time

import pytest

from gzkern.core.ordered_workers import Crew
from gzkern.errors import GzkernError

NAME = "crew-under-test"


def threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith(NAME)]


@pytest.fixture(autouse=True)
def no_thread_is_left_behind():
    assert not threads()
    yield
    assert not threads()


def wait_until(condition):
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


class Work:
    """Squares numbers; keeps which it began, takes the seconds that are given for some of them."""

    def __init__(self, **seconds):
        self.seconds, self.begun = {int(name[1:]): value for name, value in seconds.items()}, []

    def __call__(self, task):
        self.begun.append(task)
        time.sleep(self.seconds.get(task, 0))
        return task * task


@pytest.mark.parametrize("workers", [1, 2, 7])
def test_results_come_in_order_whatever_the_threads_do(workers):
    crew = Crew(Work(_0=0.03, _3=0.02), 20, workers, NAME)
    crew.allow(20)
    assert [crew.take(task) for task in range(20)] == [task * task for task in range(20)]
    wait_until(lambda: not threads())  # the last task was the last
    crew.close()


def test_no_task_begins_before_it_is_allowed():
    work = Work()
    crew = Crew(work, 100, 3, NAME)
    for allowed in (0, 4, 5):
        crew.allow(allowed)
        wait_until(lambda allowed=allowed: crew.done == allowed)
        assert sorted(work.begun) == list(range(allowed))
    with pytest.raises(GzkernError, match="task 5 of crew-under-test waits for the reader"):
        crew.take(5)
    assert crew.take(0) == 0
    with pytest.raises(GzkernError, match="task 0 of crew-under-test was taken already"):
        crew.take(0)
    crew.close()


def test_no_more_threads_than_tasks():
    crew = Crew(Work(_0=0.2, _1=0.2), 2, 50, NAME)
    assert len(threads()) == 2
    crew.close()


def test_an_exception_is_met_in_its_turn_and_ends_all():
    begun = []

    def work(task):
        begun.append(task)
        if task == 2:
            raise LookupError("two")
        time.sleep(0.01)
        return task

    crew = Crew(work, 1000, 2, NAME)
    crew.allow(1000)
    assert [crew.take(0), crew.take(1)] == [0, 1]
    with pytest.raises(LookupError, match="two"):
        crew.take(2)
    assert not threads()
    assert len(begun) <= 5


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, MemoryError])
def test_no_exception_leaves_the_reader_waiting(kind):
    def work(task):
        raise kind

    crew = Crew(work, 3, 1, NAME)
    crew.allow(3)
    with pytest.raises(kind):
        crew.take(0)


def test_what_is_closed_says_so():
    crew = Crew(Work(_0=0.05), 9, 1, NAME)
    crew.allow(9)
    crew.close()
    crew.close()
    with pytest.raises(GzkernError, match="were ended before task 5"):
        crew.take(5)


def test_a_reader_that_waits_is_told_of_the_end():
    crew = Crew(Work(_0=0.3), 9, 1, NAME)
    crew.allow(1)
    closer = threading.Timer(0.05, crew.close)
    closer.start()
    with pytest.raises(GzkernError, match="were ended before task 0"):
        crew.take(0)
    closer.join()


def test_a_forgotten_crew_ends():
    crew = Crew(Work(), 9, 2, NAME)
    crew.allow(1)
    crew.take(0)
    assert threads()
    del crew
    gc.collect()
    assert not threads()


@pytest.mark.usefixtures("interruptible")
def test_a_waiting_reader_can_be_interrupted():
    timer = threading.Timer(0.1, signal.pthread_kill, (threading.main_thread().ident, signal.SIGINT))
    timer.start()
    crew = Crew(Work(_0=0.4), 2, 1, NAME)
    crew.allow(2)
    begin = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        crew.take(0)
    assert time.monotonic() - begin < 0.35
    timer.join()
    crew.close()


def test_times():
    crew = Crew(Work(_0=0.1), 3, 1, NAME)
    time.sleep(0.1)
    crew.allow(2)
    crew.take(0)
    crew.take(1)
    made, busy, idle = crew.take_times()
    assert made == 2
    assert 0.1 <= busy < 1
    assert 0.1 <= idle < 1
    time.sleep(0.1)
    made, busy, idle = crew.take_times()  # of a wait that goes on
    assert (made, busy) == (0, 0)
    assert 0.1 <= idle < 1
    crew.close()
    assert crew.take_times()[:2] == (0, 0)


def test_threads_at_work_together_take_the_time_of_one():
    crew = Crew(Work(_0=0.3, _1=0.3, _2=0.3), 3, 3, NAME)
    crew.allow(3)
    wait_until(lambda: crew._state.working == 3)
    _, so_far, _ = crew.take_times()
    for task in range(3):
        crew.take(task)
    made, busy, _ = crew.take_times()
    assert made == 3
    assert 0.3 <= so_far + busy < 0.6
    crew.close()


def test_a_system_without_threads(monkeypatch):
    def start(thread, begin=threading.Thread.start):
        if thread.name == f"{NAME}-2":
            raise RuntimeError("can't start new thread")
        begin(thread)

    monkeypatch.setattr(threading.Thread, "start", start)
    with pytest.raises(GzkernError, match=r"5 threads cannot be started \(can't start new thread\); take fewer"):
        Crew(Work(), 9, 5, NAME)


def run_python(code, **options):
    program = "import os, sys, time, threading\nfrom gzkern.core.ordered_workers import Crew\n" + textwrap.dedent(code)
    command = [sys.executable, "-X", "faulthandler", "-c", program]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, **options)


@pytest.mark.parametrize("leave", ["", "sys.exit(3)", "raise ValueError", "os.kill(os.getpid(), 2)"])
def test_a_program_that_leaves_without_a_word_ends(leave):
    begin = time.monotonic()
    result = run_python(f"""
        import signal
        signal.signal(signal.SIGINT, signal.default_int_handler)
        crew = Crew(lambda task: time.sleep(0.02), 10**6, 3, "crew")
        crew.allow(5)
        crew.take(0)
        {leave}
    """)
    assert time.monotonic() - begin < 30
    assert "Fatal" not in result.stderr
    assert result.returncode == {"": 0, "sys.exit(3)": 3, "raise ValueError": 1}.get(leave, -signal.SIGINT)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_fork_is_told_that_the_threads_are_not_its_own():
    """While the lock is held, too, as it may be when a process forks."""
    result = run_python("""
        crew = Crew(lambda task: task, 100, 2, "crew")
        crew.allow(10)
        parent = os.getpid()
        crew._state.lock.acquire()
        child = os.fork()
        if child:
            crew._state.lock.release()
        else:
            calls = [lambda: crew.take(0), lambda: crew.allow(11), crew.take_times]
            for call in calls:
                try:
                    call()
                except Exception as error:
                    assert str(error).startswith(f"the threads crew are those of process {parent}, from which"), error
                    calls = calls[1:]
            if not calls:
                crew.close()
                mine = Crew(lambda task: -task, 3, 2, "crew")
                mine.allow(3)
                assert [mine.take(task) for task in range(3)] == [0, -1, -2]
                sys.exit(7)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        assert [crew.take(task) for task in range(10)] == list(range(10))
        crew.close()
        assert threading.active_count() == 1
    """)
    assert result.returncode == 0, result.stderr
