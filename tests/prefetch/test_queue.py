"""The list of what is to be fetched: in the journal, bounded, each study once, and not emptied by a crash."""

from __future__ import annotations

import pytest

from gateway.journal import Cause, Journal, PrefetchState, Task, prefetches
from tests.clock import ManualClock


@pytest.fixture
def clock():
    return ManualClock()


def wanted(uid, **more):
    options = {"pacs": "main", "cause": Cause.POLL} | more
    return lambda c: prefetches.want(c, uid, options.pop("task", Task.STUDY), **options)


async def take(journal, pacs="main"):
    return await journal.run(lambda c: prefetches.take(c, pacs))


async def test_a_study_is_on_the_list_once(journal):
    assert await journal.run(wanted("1.2", instances=3))
    assert not await journal.run(wanted("1.2", instances=3))
    assert not await journal.run(wanted("1.2", instances=5)), "it is on the list; its count is noted"
    assert (await take(journal)).instances == 5
    assert await take(journal) is None


async def test_what_was_done_comes_again_only_where_it_grew_or_somebody_asks(journal):
    await journal.run(wanted("1.2", instances=3))
    await take(journal)
    await journal.run(lambda c: prefetches.end(c, "1.2", Task.STUDY, PrefetchState.DONE, "", size=7))
    assert not await journal.run(wanted("1.2", instances=3))
    assert not await journal.run(wanted("1.2"))
    assert await journal.run(wanted("1.2", instances=4))
    await journal.run(lambda c: prefetches.end(c, "1.2", Task.STUDY, PrefetchState.DONE, "", size=1))
    assert await journal.run(wanted("1.2", cause=Cause.OPERATOR))
    assert await journal.run(lambda c: prefetches.size_since(c, 0)) == 8, "what came before still counts"


async def test_the_most_urgent_goes_first_and_then_the_latest(journal):
    for uid, cause in (("1.1", Cause.POLL), ("1.2", Cause.POLL), ("1.3", Cause.PRIOR), ("1.4", Cause.OPERATOR)):
        await journal.run(wanted(uid, cause=cause))
        await journal.clock.pass_time(1)
    assert [(await take(journal)).study_instance_uid for _ in range(4)] == ["1.4", "1.3", "1.2", "1.1"]


async def test_each_pacs_has_its_own(journal):
    await journal.run(wanted("1.1", pacs="other"))
    assert await take(journal) is None
    assert (await take(journal, "other")).study_instance_uid == "1.1"


async def test_what_ran_when_the_gateway_was_killed_is_done_again(tmp_path):
    url, clock = f"sqlite:///{tmp_path / 'journal.db'}", ManualClock()
    first = await Journal.open(url, clock=clock)
    await first.run(wanted("1.2"))
    assert await take(first) is not None
    await first.close()  # nothing else was said of it
    second = await Journal.open(url, clock=clock)
    await second.run(prefetches.release)
    assert (await take(second)).study_instance_uid == "1.2"
    await second.close()


async def test_what_failed_waits_and_a_clock_that_was_ahead_does_not_keep_it(journal):
    await journal.run(wanted("1.2"))
    await take(journal)
    await journal.run(lambda c: prefetches.later(c, "1.2", Task.STUDY, "why", after=60, counts=True))
    assert await take(journal) is None
    await journal.clock.pass_time(61, step=61)
    assert (await take(journal)).attempts == 2
    await journal.run(lambda c: prefetches.later(c, "1.2", Task.STUDY, "why", after=60, counts=True))
    journal.clock.jump(-30 * 86400)
    assert (await take(journal)).attempts == 3


async def test_to_give_way_is_no_attempt_and_takes_no_turn_of_the_hour(journal):
    await journal.run(wanted("1.2"))
    assert (await take(journal)).attempts == 1
    assert await journal.run(lambda c: prefetches.started_since(c, "main", 0)) == 1
    await journal.run(lambda c: prefetches.later(c, "1.2", Task.STUDY, "gave way", after=0, counts=False))
    assert await journal.run(lambda c: prefetches.started_since(c, "main", 0)) == 0
    assert (await take(journal)).attempts == 1


async def test_the_list_is_bounded_and_the_least_urgent_goes(journal, monkeypatch):
    monkeypatch.setattr(prefetches, "MOST_WAITING", 3)
    for number, cause in enumerate((Cause.POLL, Cause.OPERATOR, Cause.POLL, Cause.PRIOR, Cause.PRIOR)):
        await journal.run(wanted(f"1.{number}", cause=cause))
        await journal.clock.pass_time(1)
    left = [one.study_instance_uid for one in await journal.run(lambda c: prefetches.listed(c, 9)) if not one.ended]
    assert sorted(left) == ["1.1", "1.3", "1.4"]


async def test_what_is_opened_is_counted_as_warm_or_as_overtaken(journal):
    for uid, size in (("1.1", 9), ("1.2", 0), ("1.3", 0)):
        await journal.run(wanted(uid))
        if uid != "1.3":
            await take(journal)
            await journal.run(
                lambda c, uid=uid, size=size: prefetches.end(c, uid, Task.STUDY, PrefetchState.DONE, "", size=size)
            )
    for uid in ("1.1", "1.2", "1.3"):
        await journal.access("stu_1", uid, urls_valid_until=0.0)
    counts = await journal.run(prefetches.counts)
    assert (counts["opened"], counts["done"], counts["overtaken"], counts["waiting"]) == (1, 2, 1, 0)


async def test_what_is_long_over_is_forgotten_and_what_waits_is_not(journal):
    for uid in ("1.1", "1.2"):
        await journal.run(wanted(uid))
    await journal.run(lambda c: prefetches.end(c, "1.1", Task.STUDY, PrefetchState.DONE, ""))
    await journal.clock.pass_time(100, step=100)
    await journal.run(lambda c: prefetches.forget(c, c.now - 50))
    assert [one.study_instance_uid for one in await journal.run(lambda c: prefetches.listed(c, 9))] == ["1.2"]


@pytest.mark.slow
async def test_it_is_told_by_pacs_what_may_begin_and_what_is_not_due(journal):
    await journal.run(wanted("1.1"))
    await journal.run(wanted("1.2", after=60))
    await journal.run(wanted("1.3", pacs="other", after=60))
    await journal.run(wanted("1.1", task=Task.PRIORS))
    assert await journal.run(prefetches.waiting) == {"main": (1, 1), "other": (0, 1)}
    await journal.clock.pass_time(61)
    assert await journal.run(prefetches.waiting) == {"main": (2, 0), "other": (1, 0)}


@pytest.mark.slow
async def test_what_was_warm_is_told_of_a_day(journal):
    for uid in ("1.1", "1.2"):
        await journal.run(wanted(uid))
        await journal.run(lambda c, uid=uid: prefetches.end(c, uid, Task.STUDY, PrefetchState.DONE, "", size=7))
        await journal.run(lambda c, uid=uid: prefetches.opened(c, uid))
        await journal.clock.pass_time(100)
    now = journal.clock.now()
    assert [await journal.run(lambda c, at=at: prefetches.warm_since(c, now - at)) for at in (50, 150, 250)] == [
        0,
        1,
        2,
    ]
