"""Slow counts are cached, quick ones are exact."""

from __future__ import annotations

import threading

from posewatch.labels.slow_counts import SHARE, SlowCounts


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def counter(clock: Clock, seconds: float):
    counted = []

    def count() -> int:
        clock.now += seconds
        counted.append(clock.now)
        return len(counted)

    return count


def test_a_quick_count_is_exact_each_time():
    clock = Clock()
    counts, count = SlowCounts(clock), counter(clock, 0.01)
    assert [counts.get("a", count) for _ in range(4)] == [1, 2, 3, 4]


def test_a_slow_count_takes_a_twentieth_of_the_time():
    clock = Clock()
    counts, count = SlowCounts(clock), counter(clock, 2.0)
    assert [counts.get("a", count) for _ in range(3)] == [1, 1, 1]
    clock.now += SHARE * 2.0 - 0.1
    assert counts.get("a", count) == 1
    clock.now += 0.2
    assert counts.get("a", count) == 2
    assert counts.get("b", counter(clock, 2.0)) == 1, "counts are independent"


def test_one_thread_counts_and_the_others_get_the_last_value():
    clock = Clock()
    counts = SlowCounts(clock)
    assert counts.get("a", counter(clock, 2.0)) == 1
    clock.now += SHARE * 2.0 + 1
    began, go, out = threading.Event(), threading.Event(), []

    def long() -> int:
        began.set()
        assert go.wait(10)
        clock.now += 2.0
        return 7

    one = threading.Thread(target=lambda: out.append(counts.get("a", long)))
    one.start()
    assert began.wait(10)
    assert counts.get("a", lambda: 99) == 1
    go.set()
    one.join()
    assert out == [7]
    assert counts.get("a", lambda: 99) == 7


def test_a_failed_count_is_repeated():
    clock = Clock()
    counts = SlowCounts(clock)

    def broken() -> int:
        raise ValueError("away")

    for _ in range(2):
        try:
            counts.get("a", broken)
        except ValueError:
            continue
        raise AssertionError("the error was swallowed")
    assert counts.get("a", lambda: 3) == 3
