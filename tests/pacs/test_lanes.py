"""Whose turn it is at a PACS, and when it is left alone: by themselves, without a PACS."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.pacs.breaker import AFTER, LONGEST_PAUSE, Breaker
from gateway.pacs.errors import OperationFailed, PacsUnreachable
from gateway.pacs.lanes import Claim, Lane, Lanes, Urgency, background

QUERY, RETRIEVE, STORE = (Claim(lane, "a") for lane in Lane)


class Clock:
    """Time that stands until it is moved."""

    def __init__(self):
        self.at = 1000.0

    def now(self):
        return self.at

    def monotonic(self):
        return self.at

    async def sleep(self, seconds):
        self.at += seconds


async def taken(lanes, *claims):
    """How many of these claims get a turn, which they keep."""
    before = lanes._held.total()

    async def keep(claim):
        async with lanes.turn(claim):
            await asyncio.Event().wait()

    _kept.extend(asyncio.create_task(keep(claim)) for claim in claims)
    await asyncio.sleep(0)
    return lanes._held.total() - before


_kept: list[asyncio.Task[None]] = []


@pytest.fixture(autouse=True)
async def nothing_is_kept():
    yield
    for task in _kept:
        task.cancel()
    await asyncio.gather(*_kept, return_exceptions=True)
    _kept.clear()


@pytest.mark.parametrize("turns", [3, 4, 8])
@pytest.mark.parametrize("hog", list(Lane))
async def test_however_much_there_is_of_one_kind_each_other_kind_gets_a_turn(turns, hog):
    lanes = Lanes(turns)
    assert await taken(lanes, *[Claim(hog, str(n)) for n in range(20)]) == turns - 2
    for lane in Lane:
        if lane is not hog:
            assert await taken(lanes, Claim(lane, "b")) == 1


async def test_with_two_turns_two_kinds_are_served_at_once():
    assert await taken(Lanes(2), RETRIEVE, RETRIEVE, STORE, QUERY) == 2


async def test_with_one_turn_everything_waits_and_queries_go_first():
    lanes, order = Lanes(1), []

    async def work(claim):
        async with lanes.turn(claim):
            order.append(claim.lane)

    async with lanes.turn(RETRIEVE):
        tasks = [asyncio.create_task(work(claim)) for claim in (STORE, RETRIEVE, QUERY)]
        await asyncio.sleep(0)
    await asyncio.gather(*tasks)
    assert order[0] is Lane.QUERY


async def test_what_is_waited_for_goes_first_and_what_was_prefetched_rises_when_it_is_opened():
    lanes, order, opened = Lanes(3), [], set()

    async def work(name, urgency):
        async with lanes.turn(Claim(Lane.RETRIEVE, name, urgency)):
            order.append(name)

    async with lanes.turn(RETRIEVE):
        tasks = [
            asyncio.create_task(work("prefetched", background)),
            asyncio.create_task(work("late", lambda: Urgency.INTERACTIVE if "late" in opened else Urgency.BACKGROUND)),
            asyncio.create_task(work("compared", lambda: Urgency.REVALIDATION)),
            asyncio.create_task(work("interactive", lambda: Urgency.INTERACTIVE)),
        ]
        await asyncio.sleep(0)
        opened.add("late")
    await asyncio.gather(*tasks)
    assert order == ["late", "interactive", "compared", "prefetched"]


async def test_one_study_never_has_every_turn_of_a_lane_for_long():
    lanes = Lanes(5)
    series = Claim(Lane.RETRIEVE, "large", brief=False)
    assert await taken(lanes, *[series] * 5) == 2
    assert await taken(lanes, Claim(Lane.RETRIEVE, "small", brief=False)) == 1


@given(st.integers(1, 6), st.lists(st.tuples(st.sampled_from(list(Lane)), st.sampled_from("ab"), st.booleans())))
async def test_never_more_turns_than_there_are_and_nobody_waits_for_ever(turns, wanted):
    lanes, held, worst = Lanes(turns), 0, 0

    async def work(claim):
        nonlocal held, worst
        async with lanes.turn(claim):
            held += 1
            worst = max(worst, held)
            try:
                await asyncio.sleep(0)
            finally:
                held -= 1

    tasks = [asyncio.create_task(work(Claim(lane, owner, brief=owner == "a"))) for lane, owner, _ in wanted]
    await asyncio.sleep(0)
    for task, (_, _, given_up) in zip(tasks, wanted, strict=True):
        if given_up:
            task.cancel()
            await asyncio.sleep(0)
    async with asyncio.timeout(5):
        await asyncio.gather(*(t for t, (_, _, given_up) in zip(tasks, wanted, strict=True) if not given_up))
    assert worst <= turns
    assert not lanes._held.total()
    assert not lanes._waiting


def fail(breaker, claim=QUERY):
    with pytest.raises(PacsUnreachable, match="silent"), breaker.attempt(claim):
        raise PacsUnreachable("it was silent")


def test_what_answers_seldom_is_left_alone_and_tried_again_by_itself():
    clock = Clock()
    breaker = Breaker("PACS main", clock)
    later = Claim(Lane.STORE, urgency=background)
    for _ in range(AFTER):
        assert not breaker.trouble
        fail(breaker)
    assert "it was silent" in breaker.trouble
    with pytest.raises(PacsUnreachable, match="PACS main is left alone for 5 s"), breaker.attempt(later):
        pytest.fail("it was asked")
    clock.at += 6
    fail(breaker, later)  # the one attempt
    with pytest.raises(PacsUnreachable, match="left alone for 10 s"), breaker.attempt(later):
        pytest.fail("it was asked")
    for _ in range(20):
        clock.at += LONGEST_PAUSE
        fail(breaker, later)
    clock.at += LONGEST_PAUSE
    with breaker.attempt(later):
        pass
    assert not breaker.trouble
    with breaker.attempt(later):
        pass


def test_what_somebody_waits_for_is_always_tried():
    breaker = Breaker("PACS main", Clock())
    for _ in range(AFTER * 3):
        fail(breaker)


def test_a_refusal_is_an_answer():
    breaker = Breaker("PACS main", Clock())
    for _ in range(AFTER - 1):
        fail(breaker)
    with pytest.raises(OperationFailed), breaker.attempt(QUERY):
        raise OperationFailed("status C000", status=0xC000, transient=False)
    fail(breaker)
    assert not breaker.trouble


async def test_nothing_is_retrieved_ahead_while_somebody_waits_for_a_study():
    lanes = Lanes(8)
    ahead_of_time = Claim(Lane.RETRIEVE, "b", background)
    assert await taken(lanes, ahead_of_time) == 1, "nobody waits yet"
    assert await taken(lanes, RETRIEVE) == 1
    assert await taken(lanes, Claim(Lane.RETRIEVE, "c", background)) == 0
    assert await taken(lanes, Claim(Lane.QUERY, "c", background), Claim(Lane.STORE, "c", background)) == 2
    _kept[1].cancel()  # the one that somebody waited for
    await asyncio.sleep(0.01)
    assert lanes._held[Lane.RETRIEVE] == 2, "and then it goes on"
