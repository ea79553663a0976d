"""Slow figures are counted now and then, quick ones each time."""

from __future__ import annotations

import threading

from posewatch.labels.slow_counts import SHARE, SlowCounts


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def counter(clock: Clock, seconds: float):
    made = []

    def count() -> int:
        clock.now += seconds
        made.append(clock.now)
        return len(made)

    return count


def test_a_quick_figure_is_exact_each_time():
    clock = Clock()
    figures, count = SlowCounts(clock), counter(clock, 0.01)
    assert [figures.get("a", count) for _ in range(4)] == [1, 2, 3, 4]


def test_a_slow_figure_is_counted_for_a_twentieth_of_the_time():
    clock = Clock()
    figures, count = SlowCounts(clock), counter(clock, 2.0)
    assert [figures.get("a", count) for _ in range(3)] == [1, 1, 1]
    clock.now += SHARE * 2.0 - 0.1
    assert figures.get("a", count) == 1
    clock.now += 0.2
    assert figures.get("a", count) == 2
    assert figures.get("b", counter(clock, 2.0)) == 1, "figures are apart"


def test_one_counts_and_the_others_have_what_was_there():
    clock = Clock()
    figures = SlowCounts(clock)
    assert figures.get("a", counter(clock, 2.0)) == 1
    clock.now += SHARE * 2.0 + 1
    began, go, out = threading.Event(), threading.Event(), []

    def long() -> int:
        began.set()
        assert go.wait(10)
        clock.now += 2.0
        return 7

    one = threading.Thread(target=lambda: out.append(figures.get("a", long)))
    one.start()
    assert began.wait(10)
    assert figures.get("a", lambda: 99) == 1
    go.set()
    one.join()
    assert out == [7]
    assert figures.get("a", lambda: 99) == 7


def test_a_count_that_fails_is_tried_again():
    clock = Clock()
    figures = SlowCounts(clock)

    def broken() -> int:
        raise ValueError("away")

    for _ in range(2):
        try:
            figures.get("a", broken)
        except ValueError:
            continue
        raise AssertionError("the error was swallowed")
    assert figures.get("a", lambda: 3) == 3
