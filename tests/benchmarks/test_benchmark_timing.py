"""Turns, repeats and statistics of the benchmarks, on clocks that are made up."""

import numpy as np
import pytest

from benchmarks.harness.timing import MOST_CALLS, SHORTEST, WARM_UPS, CpuStopwatch, Timed, interleave, ranked


class Clockwork:
    """A stopwatch whose calls take what they say, and that notes what it is asked."""

    def __init__(self):
        self.asked = []

    def time(self, call, count, cold, ahead):
        self.asked.append((call.__name__, count, cold, ahead))
        return sum(call() for _ in range(count)), 1e-5 * count


def taking(name, *seconds):
    """A call that takes these seconds, one after the other and then the last of them again and again."""
    left = list(seconds)

    def call():
        return left.pop(0) if len(left) > 1 else left[0]

    call.__name__ = name
    return call


def test_contenders_take_turns():
    clock = Clockwork()
    seconds = interleave({"a": taking("a", 0.5), "b": taking("b", 0.25)}, clock, 4, cold=True)
    assert seconds == {"a": [0.5] * 4, "b": [0.25] * 4}
    assert [asked[0] for asked in clock.asked[-8:]] == ["a", "b"] * 4
    assert all(asked[1:3] == (1, True) for asked in clock.asked[-8:])


def test_a_warm_sample_is_long_enough_and_a_cold_one_is_one_call():
    clock = Clockwork()
    timed = Timed(taking("short", 1.0, 1e-5), clock, cold=False)  # the first call compiles
    assert timed.sample() == pytest.approx(1e-5)
    assert clock.asked[-1][1] == round(SHORTEST / 1e-5)
    tiny = Timed(taking("tiny", 1e-9), clock, cold=False)
    tiny.sample()
    assert clock.asked[-1][1] == MOST_CALLS
    Timed(taking("cold", 1e-9), clock, cold=True).sample()
    assert clock.asked[-1][1:3] == (1, True)


def test_the_device_is_kept_busy_while_the_host_makes_the_calls():
    class SlowHost(Clockwork):
        def time(self, call, count, cold, ahead):
            return super().time(call, count, cold, ahead)[0], 4e-3 * count

    clock = SlowHost()
    Timed(taking("call", 1e-3), clock, cold=True).sample()
    assert clock.asked[0][3] == 0.0
    assert clock.asked[1][3] == pytest.approx(1e-3)
    assert [asked[3] for asked in clock.asked[2:]] == [pytest.approx(6e-3)] * WARM_UPS


def test_ranking_drops_what_fails_and_what_is_far_behind():
    def broken():
        raise RuntimeError("no such algorithm\nmore")

    refused = {}
    clock = Clockwork()
    calls = {"slow": taking("slow", 1.0), "fast": taking("fast", 0.1), "broken": broken, "last": taking("last", 0.9)}
    assert ranked(calls, clock, refused) == ["fast", "last", "slow"]
    assert refused == {"broken": "no such algorithm"}
    assert [asked[0] for asked in clock.asked].count("last") == 2  # not tried again: three times as slow as the best


def test_the_cpu_s_stopwatch():
    ticks = iter(np.arange(0.0, 10.0, 0.5))
    watch = CpuStopwatch(lambda: next(ticks), cache_bytes=10)
    calls = []
    assert watch.time(lambda: calls.append(1), 3, True, 0.0) == (0.5, 0.5)
    assert calls == [1, 1, 1]
    assert (watch._other == 1).all()
