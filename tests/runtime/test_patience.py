"""A time-out for many short waits: each has all of its time, and no more. By a loop whose time is set by hand."""

from __future__ import annotations

import pytest

from gateway.runtime import Patience


class Timer:
    def __init__(self, at, call):
        self.at, self.call, self.cancelled = at, call, False

    def when(self):
        return self.at

    def cancel(self):
        self.cancelled = True


class Loop:
    def __init__(self):
        self.now, self.timers, self.armed = 0.0, [], 0

    def time(self):
        return self.now

    def call_at(self, at, call):
        self.armed += 1
        self.timers.append(Timer(at, call))
        return self.timers[-1]

    def pass_by(self, seconds):
        until = self.now + seconds
        while due := [t for t in self.timers if not t.cancelled and t.at <= until]:
            first = min(due, key=Timer.when)
            self.timers.remove(first)
            self.now = first.at
            first.call()
        self.now = until


@pytest.fixture
def loop(monkeypatch):
    loop = Loop()
    monkeypatch.setattr("asyncio.get_running_loop", lambda: loop)
    return loop


@pytest.fixture
def late():
    return []


@pytest.fixture
def patience(loop, late):
    return Patience(lambda: late.append(loop.now))


def test_a_wait_that_lasts_too_long_is_over_and_the_next_one_is_not(loop, patience, late):
    patience.begin(5)
    loop.pass_by(4.9)
    assert not late
    assert not patience.is_over
    loop.pass_by(0.2)
    assert late == [5]
    assert patience.is_over
    patience.end()
    assert not patience.is_over
    patience.begin(5)
    loop.pass_by(4.9)
    assert len(late) == 1
    assert not patience.is_over


def test_many_waits_that_end_in_time_are_never_over_and_share_a_timer(loop, patience, late):
    for _ in range(1000):
        patience.begin(60)
        loop.pass_by(0.1)
        patience.end()
    loop.pass_by(600)
    assert not late
    assert loop.armed <= 3


def test_a_later_wait_may_be_shorter_than_what_is_left_of_an_earlier_one(loop, patience, late):
    patience.begin(60)
    patience.end()
    patience.begin(2)
    loop.pass_by(100)
    assert late == [2]


def test_a_wait_has_all_of_its_time_while_the_timer_of_an_earlier_one_still_runs(loop, patience, late):
    patience.begin(5)
    loop.pass_by(3)
    patience.end()
    patience.begin(60)
    loop.pass_by(59)
    assert not late
    loop.pass_by(2)
    assert late == [63]


def test_once_closed_nothing_is_over(loop, patience, late):
    patience.begin(1)
    patience.close()
    loop.pass_by(10)
    assert not late
    assert not patience.is_over
