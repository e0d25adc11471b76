"""Ordered workers: tasks in order, as far as allowed, whatever happens to reader, threads and process."""

import gc
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time

import pytest

from gzkern.core.ordered_workers import OrderedWorkers, prefetch
from gzkern.errors import GzkernError

NAME = "under-test"
NAMES = (NAME, "gzkern-prefetch")


def threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith(NAMES)]


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
    tasks = OrderedWorkers(Work(_0=0.03, _3=0.02), 20, workers, NAME)
    tasks.allow(20)
    assert [tasks.take(task) for task in range(20)] == [task * task for task in range(20)]
    wait_until(lambda: not threads())  # the last task was the last
    tasks.close()


def test_no_task_begins_before_it_is_allowed():
    work = Work()
    tasks = OrderedWorkers(work, 100, 3, NAME)
    for allowed in (0, 4, 5):
        tasks.allow(allowed)
        wait_until(lambda allowed=allowed: tasks.ready == allowed)
        assert sorted(work.begun) == list(range(allowed))
    with pytest.raises(GzkernError, match="task 5 of under-test waits for the reader"):
        tasks.take(5)
    assert tasks.take(0) == 0
    with pytest.raises(GzkernError, match="task 0 of under-test was taken already"):
        tasks.take(0)
    tasks.close()


def test_no_more_threads_than_tasks():
    tasks = OrderedWorkers(Work(_0=0.2, _1=0.2), 2, 50, NAME)
    assert len(threads()) == 2
    tasks.close()


def test_an_exception_is_met_in_its_turn_and_ends_all():
    begun = []

    def work(task):
        begun.append(task)
        if task == 2:
            raise LookupError("two")
        time.sleep(0.01)
        return task

    tasks = OrderedWorkers(work, 1000, 2, NAME)
    tasks.allow(1000)
    assert [tasks.take(0), tasks.take(1)] == [0, 1]
    with pytest.raises(LookupError, match="two"):
        tasks.take(2)
    assert not threads()
    assert len(begun) <= 5


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, MemoryError])
def test_no_exception_leaves_the_reader_waiting(kind):
    def work(task):
        raise kind

    tasks = OrderedWorkers(work, 3, 1, NAME)
    tasks.allow(3)
    with pytest.raises(kind):
        tasks.take(0)


def test_what_is_closed_says_so():
    tasks = OrderedWorkers(Work(_0=0.05), 9, 1, NAME)
    tasks.allow(9)
    tasks.close()
    tasks.close()
    with pytest.raises(GzkernError, match="were ended before task 5"):
        tasks.take(5)


def test_a_reader_that_waits_is_told_of_the_end():
    tasks = OrderedWorkers(Work(_0=0.3), 9, 1, NAME)
    tasks.allow(1)
    closer = threading.Timer(0.05, tasks.close)
    closer.start()
    with pytest.raises(GzkernError, match="were ended before task 0"):
        tasks.take(0)
    closer.join()


def test_forgotten_workers_end():
    tasks = OrderedWorkers(Work(), 9, 2, NAME)
    tasks.allow(1)
    tasks.take(0)
    assert threads()
    del tasks
    gc.collect()
    assert not threads()


@pytest.mark.usefixtures("interruptible")
def test_a_waiting_reader_can_be_interrupted():
    timer = threading.Timer(0.1, signal.pthread_kill, (threading.main_thread().ident, signal.SIGINT))
    timer.start()
    tasks = OrderedWorkers(Work(_0=0.4), 2, 1, NAME)
    tasks.allow(2)
    begin = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        tasks.take(0)
    assert time.monotonic() - begin < 0.35
    timer.join()
    tasks.close()


def test_times():
    tasks = OrderedWorkers(Work(_0=0.1), 3, 1, NAME)
    time.sleep(0.1)
    tasks.allow(2)
    tasks.take(0)
    tasks.take(1)
    made, busy, idle = tasks.take_times()
    assert made == 2
    assert 0.1 <= busy < 1
    assert 0.1 <= idle < 1
    time.sleep(0.1)
    made, busy, idle = tasks.take_times()  # of a wait that goes on
    assert (made, busy) == (0, 0)
    assert 0.1 <= idle < 1
    tasks.close()
    assert tasks.take_times()[:2] == (0, 0)


def test_threads_at_work_together_take_the_time_of_one():
    tasks = OrderedWorkers(Work(_0=0.3, _1=0.3, _2=0.3), 3, 3, NAME)
    tasks.allow(3)
    wait_until(lambda: tasks._state.working == 3)
    _, so_far, _ = tasks.take_times()
    for task in range(3):
        tasks.take(task)
    made, busy, _ = tasks.take_times()
    assert made == 3
    assert 0.3 <= so_far + busy < 0.6
    tasks.close()


def test_a_system_without_threads(monkeypatch):
    def start(thread, begin=threading.Thread.start):
        if thread.name == f"{NAME}-2":
            raise RuntimeError("can't start new thread")
        begin(thread)

    monkeypatch.setattr(threading.Thread, "start", start)
    with pytest.raises(GzkernError, match=r"5 threads cannot be started \(can't start new thread\); take fewer"):
        OrderedWorkers(Work(), 9, 5, NAME)


def run_python(code, **options):
    imports = "import os, sys, time, threading\nfrom gzkern.core.ordered_workers import OrderedWorkers, prefetch\n"
    program = imports + textwrap.dedent(code)
    command = [sys.executable, "-X", "faulthandler", "-c", program]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, **options)


@pytest.mark.parametrize("leave", ["", "sys.exit(3)", "raise ValueError", "os.kill(os.getpid(), 2)"])
def test_a_program_that_leaves_without_a_word_ends(leave):
    begin = time.monotonic()
    result = run_python(f"""
        import signal
        signal.signal(signal.SIGINT, signal.default_int_handler)
        tasks = OrderedWorkers(lambda task: time.sleep(0.02), 10**6, 3, "mine")
        tasks.allow(5)
        tasks.take(0)
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
        tasks = OrderedWorkers(lambda task: task, 100, 2, "mine")
        tasks.allow(10)
        parent = os.getpid()
        tasks._state.lock.acquire()
        child = os.fork()
        if child:
            tasks._state.lock.release()
        else:
            calls = [lambda: tasks.take(0), lambda: tasks.allow(11), tasks.take_times]
            for call in calls:
                try:
                    call()
                except Exception as error:
                    assert str(error).startswith(f"the threads mine are those of process {parent}, from which"), error
                    calls = calls[1:]
            if not calls:
                tasks.close()
                mine = OrderedWorkers(lambda task: -task, 3, 2, "mine")
                mine.allow(3)
                assert [mine.take(task) for task in range(3)] == [0, -1, -2]
                sys.exit(7)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        assert [tasks.take(task) for task in range(10)] == list(range(10))
        tasks.close()
        assert threading.active_count() == 1
    """)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize(("workers", "most"), [(1, 1), (2, 1), (3, 7), (50, 100)])
def test_prefetch_keeps_the_order_and_the_bound(workers, most):
    work, taken = Work(_0=0.02, _3=0.02), 0
    for result in prefetch(work, range(12), workers=workers, most=most):
        assert result == taken * taken
        assert len(work.begun) <= taken + most
        taken += 1
    assert taken == 12


def test_prefetch_fills_its_bound_while_the_reader_works():
    work = Work()
    results = prefetch(work, range(100), workers=2, most=5)
    assert next(results) == 0
    wait_until(lambda: len(work.begun) == 5)
    time.sleep(0.02)
    assert len(work.begun) == 5
    results.close()


def test_prefetch_of_nothing():
    assert list(prefetch(Work(), [], workers=3, most=4)) == []


def test_prefetch_meets_an_exception_in_its_turn():
    def work(item):
        if item == 2:
            raise LookupError("two")
        return item

    results = prefetch(work, range(1000), workers=3, most=4)
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(LookupError, match="two"):
        next(results)
    assert not threads()


def test_prefetch_that_is_left_ends_its_threads():
    for result in prefetch(Work(), range(1000), workers=2, most=4):
        assert threads()
        if result == 9:
            break
    gc.collect()
    assert not threads()


@pytest.mark.usefixtures("interruptible")
def test_prefetch_can_be_interrupted():
    timer = threading.Timer(0.1, signal.pthread_kill, (threading.main_thread().ident, signal.SIGINT))
    timer.start()
    work = Work(_0=0.4)
    with pytest.raises(KeyboardInterrupt):
        list(prefetch(work, range(100), workers=1, most=2))
    assert work.begun == [0]
    timer.join()


def test_a_program_that_leaves_a_prefetch_ends():
    result = run_python("""
        results = prefetch(lambda item: time.sleep(0.02), range(10**6), workers=3, most=5)
        next(results)
        raise ValueError
    """)
    assert result.returncode == 1
    assert "Fatal" not in result.stderr
