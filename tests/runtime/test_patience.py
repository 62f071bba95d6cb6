"""A time-out for many short waits: each has all of its time, and no more."""

from __future__ import annotations

import asyncio

import pytest

from gateway.runtime import Patience


class Late:
    def __init__(self) -> None:
        self.came = asyncio.Event()
        self.times = 0

    def __call__(self) -> None:
        self.times += 1
        self.came.set()


@pytest.fixture
async def late():
    return Late()


async def test_a_wait_that_lasts_too_long_is_over_and_the_next_one_is_not(late):
    patience = Patience(late)
    patience.begin(0.02)
    async with asyncio.timeout(5):
        await late.came.wait()
    assert patience.is_over
    patience.end()
    assert not patience.is_over
    patience.begin(60)
    assert not patience.is_over
    patience.close()


async def test_many_waits_that_end_in_time_are_never_over_though_together_they_take_longer(late):
    patience = Patience(late)
    for _ in range(8):
        patience.begin(0.05)
        await asyncio.sleep(0.01)
        patience.end()
    await asyncio.sleep(0.1)
    assert late.times == 0
    patience.close()


async def test_a_later_wait_may_be_shorter_than_what_is_left_of_an_earlier_one(late):
    patience = Patience(late)
    patience.begin(60)
    patience.end()
    patience.begin(0.02)
    async with asyncio.timeout(5):
        await late.came.wait()
    assert patience.is_over
    patience.close()


async def test_a_wait_begins_its_time_anew_while_the_timer_of_an_earlier_one_still_runs(late):
    patience = Patience(late)
    patience.begin(0.05)
    await asyncio.sleep(0.03)
    patience.begin(60)
    await asyncio.sleep(0.1)
    assert late.times == 0
    patience.close()


async def test_once_closed_nothing_is_over(late):
    patience = Patience(late)
    patience.begin(0.01)
    patience.close()
    await asyncio.sleep(0.05)
    assert late.times == 0
    assert not patience.is_over
