"""Nobody waits behind somebody else: turns by place, and places that do not answer are asked less often."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.journal import Jobs, JobState
from gateway.journal import lanes as lanes_module
from gateway.journal.handling import JobDone, Kind, PlaceSilent, TryLater
from gateway.journal.lanes import AFTER, Change, Lanes, Outcome
from gateway.journal.worker import Worker
from tests.clock import ManualClock, settle
from tests.untyped import Untyped

MAIN, OTHER = ("test", "main"), ("test", "other")


@pytest.fixture
def clock():
    return ManualClock()


def board(clock, *, total=48, at_once=4):
    lanes = Lanes(total=total, clock=clock)
    lanes.register("test", at_once)
    return lanes


# -- who begins


def test_every_lane_has_its_first_turn_however_many_run_elsewhere(clock):
    lanes = board(clock, total=8)
    for n in range(8):
        lanes.began(("test", f"hung {n // 4}"))
    assert lanes.turns().share([("test", "hung 0"), MAIN]) == {MAIN: 1}


def test_turns_beyond_the_first_go_round(clock):
    assert board(clock, total=5).turns().share([MAIN, OTHER]) == {MAIN: 3, OTHER: 2}
    assert board(clock, total=100).turns().share([MAIN, OTHER]) == {MAIN: 4, OTHER: 4}


def test_who_was_served_last_comes_last(clock):
    lanes = board(clock, total=3)
    for key in (OTHER, MAIN):
        lanes.began(key)
        lanes.ended(key)
    assert lanes.turns().share([MAIN, OTHER]) == {OTHER: 2, MAIN: 1}


@given(st.lists(st.integers(0, 5), max_size=40), st.integers(1, 12), st.integers(1, 5), st.sets(st.integers(0, 5)))
def test_no_lane_has_more_than_its_turns_and_none_that_is_idle_gets_none(running, total, at_once, due):
    lanes = board(ManualClock(), total=total, at_once=at_once)
    held = Counter()
    for n in running:
        if held[n] < at_once:
            held[n] += 1
            lanes.began(("test", str(n)))
    shares = lanes.turns().share([("test", str(n)) for n in due])
    for n in due:
        share = shares.get(("test", str(n)), 0)
        assert share + held[n] <= at_once
        if not held[n]:
            assert share >= 1
    beyond = sum(max(share - (not held[int(key[1])]), 0) for key, share in shares.items())
    assert beyond <= max(total - held.total(), 0)


# -- places that do not answer


def test_a_place_that_does_not_answer_is_asked_once_after_pauses_that_grow(clock):
    lanes = board(clock)
    for _ in range(AFTER - 1):
        assert lanes.learn(MAIN, Outcome.SILENT, "no answer") is Change.NONE
    assert lanes.learn(MAIN, Outcome.SILENT, "no answer") is Change.PAUSED
    pauses = []
    for _ in range(8):
        assert lanes.turns().of(MAIN) == 0
        pauses.append(lanes.opens_in(MAIN))
        clock._monotonic += pauses[-1]
        assert lanes.turns().of(MAIN) == 1
        lanes.began(MAIN)
        assert lanes.turns().of(MAIN) == 0  # one at a time
        lanes.ended(MAIN)
        lanes.learn(MAIN, Outcome.SILENT, "no answer")
    assert pauses[:4] == [5, 10, 20, 40]
    assert pauses[-1] == lanes_module.LONGEST_PAUSE
    assert lanes.turns().of(OTHER) == 4


def test_a_place_that_answers_again_has_all_its_turns(clock):
    lanes = board(clock)
    for _ in range(AFTER):
        lanes.learn(MAIN, Outcome.SILENT, "no answer")
    assert lanes.state(MAIN).paused
    assert lanes.learn(MAIN, Outcome.NOTHING) is Change.PAUSED  # the store was away: that says nothing of it
    assert lanes.learn(MAIN, Outcome.ANSWERED) is Change.REOPENED
    assert lanes.turns().of(MAIN) == 4
    assert not lanes.state(MAIN).paused


# -- in a worker


@pytest.fixture
async def work(journal):
    running = []

    async def begin(handler, *, at_once=4, retry_for=3600.0, total=48):
        worker = Worker(journal, at_once=total)
        worker.register("test", Kind(handler, at_once, retry_for))
        await worker.start()
        running.append((worker, asyncio.create_task(worker.run())))
        await settle()
        return worker

    yield begin
    for worker, loop in running:
        loop.cancel()
        await asyncio.gather(loop, return_exceptions=True)
        await worker.stop()


async def passing(clock, condition, *, seconds=3600.0, step=1.0):
    """Lets time pass until *condition*; how many seconds it took."""
    began = clock.monotonic()
    while not await condition():
        assert clock.monotonic() - began < seconds, "it did not come about"
        await clock.pass_time(step, step=step)
    return clock.monotonic() - began


@pytest.mark.slow
async def test_a_place_that_says_nothing_slows_no_other(clock, journal, work):
    """Every attempt at one place takes its whole time-out; the other is as fast as if it were alone."""

    async def handler(job):
        if job.lane == "silent":
            await clock.sleep(30)
            raise PlaceSilent("nothing came within 30 s")
        await clock.sleep(1)
        return JobDone("")

    jobs = Jobs(journal)
    for n in range(40):
        for lane in ("silent", "main"):
            await jobs.add("test", f"{n} {lane}", Untyped({"target": lane}))
    worker = await work(handler)

    async def main_is_done():
        return (await jobs.counts()).get(("test", JobState.DONE), 0) == 40

    took = await passing(clock, main_is_done, seconds=120)
    assert took < 60  # 40 jobs, four at once, a second each, and some slack for the machine
    assert {s.lane: s.paused for s in worker.lanes()}["main"] is False


@pytest.mark.slow
async def test_what_waits_for_a_silent_place_uses_up_no_attempts_and_goes_on_at_once_when_it_answers(
    clock, journal, work
):
    answers, tried = False, 0

    async def handler(job):
        nonlocal tried
        tried += 1
        if not answers:
            raise PlaceSilent("connection refused")
        return JobDone("")

    jobs = Jobs(journal)
    for n in range(30):
        await jobs.add("test", str(n), Untyped({"target": "main"}))
    worker = await work(handler)
    await clock.pass_time(1800, step=5)
    assert tried < 60  # each by itself would be tried ten times in that time
    (paused,) = await jobs.paused_lanes()
    assert (paused.kind, paused.lane, paused.reason) == ("test", "main", "connection refused")
    async with asyncio.timeout(20):  # the last one may still be on its way into the journal
        while paused.failures != worker.lanes()[0].failures:
            await asyncio.sleep(0.01)
            (paused,) = await jobs.paused_lanes()
    answers = True

    async def all_done():
        return (await jobs.counts()).get(("test", JobState.DONE), 0) == 30

    assert await passing(clock, all_done, step=1) < 120
    assert await jobs.paused_lanes() == []


@pytest.mark.slow
async def test_an_error_that_is_not_the_places_pauses_no_lane(clock, journal, work):
    async def handler(job):
        raise TryLater("the store is away")

    jobs = Jobs(journal)
    for n in range(10):
        await jobs.add("test", str(n), Untyped({"target": "main"}))
    worker = await work(handler)
    await clock.pass_time(60)
    assert not any(s.paused for s in worker.lanes())
    assert await jobs.paused_lanes() == []


@pytest.mark.slow
async def test_people_are_told_in_time_of_everything_that_a_silent_place_does_not_get(clock, journal, work):
    async def handler(job):
        raise PlaceSilent("connection refused")

    jobs = Jobs(journal)
    for n in range(30):
        await jobs.add("test", str(n), Untyped({"target": "main"}))
    await work(handler, retry_for=3600.0)

    async def all_held():
        return (await jobs.counts()).get(("test", JobState.QUARANTINED), 0) == 30

    took = await passing(clock, all_held, seconds=4 * 3600, step=20)
    assert took > 3500
    held = await jobs.list([JobState.QUARANTINED])
    assert all("connection refused" in j.last_error for j in held)
