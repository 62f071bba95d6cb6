"""A captured webhook gets nothing new: the same answer while it is kept, and then none."""

from __future__ import annotations

import asyncio

import pytest

from gateway.avara import remember
from gateway.avara.remember import GOOD_FOR, Deliveries, Replayed, Response

ANSWER = Response(200, b"x" * 100)


class Clock:
    def __init__(self):
        self.time = 1000.0

    def now(self):
        return self.time

    def monotonic(self):
        return self.time

    async def sleep(self, seconds):
        self.time += seconds


async def test_the_same_delivery_gets_the_same_answer():
    deliveries = Deliveries(Clock())
    assert await deliveries.begin("msg_1", 1000) is None
    deliveries.end("msg_1", ANSWER)
    assert await deliveries.begin("msg_1", 1000) == ANSWER
    assert await deliveries.begin("msg_1", 1010) == ANSWER
    assert await deliveries.begin("msg_2", 1000) is None


async def test_once_its_answer_is_gone_a_copy_gets_none_and_a_repeat_of_avaras_a_new_one():
    deliveries = Deliveries(Clock(), most_bytes=150)
    for name in ("msg_1", "msg_2"):
        assert await deliveries.begin(name, 1000) is None
        deliveries.end(name, ANSWER)
    for timestamp in (1000, 990):
        with pytest.raises(Replayed):
            await deliveries.begin("msg_1", timestamp)
    assert await deliveries.begin("msg_2", 1000) == ANSWER
    assert await deliveries.begin("msg_1", 1001) is None  # signed anew


async def test_what_was_not_answered_may_come_again():
    deliveries = Deliveries(Clock())
    assert await deliveries.begin("msg_1", 1000) is None
    deliveries.end("msg_1", None)
    assert await deliveries.begin("msg_1", 1000) is None


async def test_two_at_once_are_answered_once():
    deliveries = Deliveries(Clock())
    assert await deliveries.begin("msg_1", 1000) is None
    second = asyncio.create_task(deliveries.begin("msg_1", 1000))
    await asyncio.sleep(0.01)
    assert not second.done()
    deliveries.end("msg_1", ANSWER)
    assert await second == ANSWER


async def test_it_is_remembered_for_as_long_as_its_signature_is_good_and_no_longer():
    clock = Clock()
    deliveries = Deliveries(clock)
    assert await deliveries.begin("msg_1", 1200) is None  # Avara's clock is ahead
    deliveries.end("msg_1", ANSWER)
    clock.time = 1200 + GOOD_FOR
    assert await deliveries.begin("msg_1", 1200) == ANSWER
    clock.time += 1
    assert await deliveries.begin("msg_2", 1500) is None
    assert len(deliveries._known) == 1


async def test_after_a_restart_a_copy_gets_none_and_a_repeat_of_avaras_a_new_one():
    before, after = Deliveries(Clock()), Deliveries(Clock())
    assert await before.begin("msg_1", 1000) is None
    before.end("msg_1", ANSWER)
    before.answered("msg_1", 1000)
    kept = before.take()
    assert "msg_1" not in str(kept)
    assert before.take() == {}
    after.restore(kept)
    with pytest.raises(Replayed):
        await after.begin("msg_1", 1000)
    assert await after.begin("msg_1", 1001) is None
    after.end("msg_1", ANSWER)
    assert await after.begin("msg_1", 1001) == ANSWER


async def test_what_a_restart_is_to_remember_is_forgotten_as_soon_and_is_bounded(monkeypatch):
    clock = Clock()
    deliveries = Deliveries(clock)
    deliveries.restore({"a": 1000, "b": 900})
    clock.time = 900 + GOOD_FOR + 1
    assert await deliveries.begin("msg_1", 1100) is None
    assert len(deliveries._known) == 2
    monkeypatch.setattr(remember, "MOST_UNKEPT", 3)
    for n in range(9):
        deliveries.answered(f"msg_{n}", 1000)
    taken = deliveries.take()
    assert len(taken) == 3
    deliveries.answered("msg_10", 1000)
    deliveries.put_back(taken)
    assert len(deliveries.take()) == 3
