"""Clocks that jump: nothing runs twice, nothing waits a day too long, nothing is given up or cleaned away early.

The clock is turned by hand; the journal is a real file.
"""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy import event, select

from gateway.journal import JobLost, Jobs, JobState, Journal, leases, tables
from gateway.journal import jobs as table
from gateway.journal.handling import JobDone, Kind, TryLater
from gateway.journal.worker import LEASE, Worker
from tests.clock import ManualClock, settle
from tests.untyped import Untyped

DAY = 86400.0


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def jobs(journal):
    return Jobs(journal)


@pytest.fixture
async def work(journal):
    """Begins a worker that does jobs of kind ``test`` with a handler."""
    running = []

    async def begin(handler, *, at_once=2, retry_for=3600.0):
        worker = Worker(journal)
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


async def eventually(condition, clock=None, within=10.0):
    """Waits, in real time, for what the journal's thread does; with *clock*, lets its seconds pass meanwhile."""
    async with asyncio.timeout(within):
        while not await condition():
            await (clock.pass_time(1.0) if clock is not None else asyncio.sleep(0.005))


class Slow:
    """A handler whose jobs run until they are let go, and that counts them."""

    def __init__(self):
        self.now, self.most, self.begun = 0, 0, 0
        self.go = asyncio.Event()

    async def __call__(self, job):
        self.begun += 1
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            await self.go.wait()
        finally:
            self.now -= 1
        return JobDone("")


@pytest.mark.slow
@pytest.mark.parametrize("jump", [120.0, DAY, -120.0, -DAY])
async def test_a_job_under_way_does_not_run_twice_whatever_the_clock_says(clock, jobs, work, jump):
    handler = Slow()
    job, _ = await jobs.add("test", "a", Untyped())
    await work(handler)

    async def begun():
        return handler.begun == 1

    await eventually(begun, clock)
    clock.jump(jump)
    for _ in range(5):
        await clock.pass_time(LEASE / 2, step=5)
        await jobs.get(job.id)  # the journal's thread has gone on as far
    assert (handler.begun, handler.most) == (1, 1)
    handler.go.set()

    async def done():
        return (await jobs.get(job.id)).state is JobState.DONE

    await eventually(done, clock)
    assert handler.begun == 1


async def test_what_was_taken_from_a_worker_is_not_recorded_by_it(journal, jobs):
    await jobs.add("test", "a", Untyped())
    (first,) = await journal.run(lambda c: leases.take(c, "test", "", 1, "one", 60))
    await journal.run(lambda c: leases.release(c, "two", alone=True))
    await journal.run(lambda c: c.connection.exec_driver_sql("UPDATE jobs SET next_at = 0"))
    (second,) = await journal.run(lambda c: leases.take(c, "test", "", 1, "two", 60))
    assert second.taken == first.taken + 1
    for record in (
        lambda c: table.end(c, first, JobState.DONE, "late"),
        lambda c: table.reschedule(c, first, "late", failed=True),
    ):
        with pytest.raises(JobLost):
            await journal.run(record)
    await journal.run(lambda c: table.end(c, second, JobState.DONE, "in time"))
    assert [e.text for e in await jobs.history(first.id)] == ["added", "done: in time"]


@pytest.mark.slow
async def test_a_clock_that_was_a_day_ahead_and_is_set_right_delays_no_job(clock, jobs, work):
    tried = []

    async def handler(job):
        tried.append(clock.monotonic())
        raise TryLater("the receiver is away")

    job, _ = await jobs.add("test", "a", Untyped())
    clock.jump(DAY)
    await work(handler)

    async def failed_often():
        return len(tried) >= 4

    await eventually(failed_often, clock)
    clock.jump(-DAY)
    before = clock.monotonic()

    async def tried_again():
        return len(tried) >= 6

    await eventually(tried_again, clock)
    assert clock.monotonic() - before < 120  # the usual pauses are 8 and 16 s
    assert (await jobs.get(job.id)).state is JobState.WAITING


async def test_a_clock_that_ran_ahead_while_the_gateway_was_off_delays_no_job(tmp_path):
    url = f"sqlite:///{tmp_path / 'journal.db'}"
    wrong = ManualClock(1_700_000_000.0 + DAY)
    journal = await Journal.open(url, clock=wrong)
    job, _ = await journal.run(lambda c: table.add(c, "test", "a", Untyped(), after=10.0))
    await journal.close()
    right = ManualClock(1_700_000_000.0)
    journal = await Journal.open(url, clock=right)
    worker = Worker(journal)
    await worker.start()
    assert (await Jobs(journal).get(job.id)).next_at == right.now() + 10.0
    await journal.close()


@pytest.mark.parametrize("jump", [7 * DAY, -7 * DAY])
async def test_what_is_kept_for_a_day_is_kept_for_a_day(clock, journal, jobs, jump):
    await journal.run(lambda c: table.clean(c, "outbox/x", after=DAY))
    clock.jump(jump)
    (clean,) = await jobs.list()
    assert clean.next_at - clock.now() == DAY


@pytest.mark.slow
async def test_a_clock_that_is_set_gives_up_no_job(clock, jobs, work):
    async def handler(job):
        raise TryLater("still away")

    job, _ = await jobs.add("test", "a", Untyped())
    await work(handler, retry_for=2 * DAY)

    async def tried_ten_times():
        return (await jobs.get(job.id)).attempts > 10

    for _ in range(200):
        if await tried_ten_times():
            break
        await clock.pass_time(300, step=60)
    clock.jump(7 * DAY)
    attempts = (await jobs.get(job.id)).attempts
    for _ in range(200):
        if (await jobs.get(job.id)).attempts > attempts:
            break
        await clock.pass_time(300, step=60)
    assert (await jobs.get(job.id)).attempts > attempts
    assert (await jobs.get(job.id)).state is JobState.WAITING


@pytest.mark.slow
async def test_a_worker_with_a_job_under_way_does_not_ask_the_journal_all_the_time(clock, journal, jobs, work):
    handler = Slow()
    await jobs.add("test", "a", Untyped())
    await work(handler, at_once=1)

    async def begun():
        return handler.begun == 1

    await eventually(begun, clock)
    await jobs.add("test", "b", Untyped())  # due, and there is no turn for it
    await clock.pass_time(2, step=0.05)
    transactions = 0

    @event.listens_for(journal._commits._engine, "begin")
    def count(connection):
        nonlocal transactions
        transactions += 1

    for _ in range(10):
        await clock.pass_time(1, step=0.05)
        await asyncio.sleep(0.02)
    event.remove(journal._commits._engine, "begin", count)
    assert transactions <= 14  # one look a second, and a lease to prolong


async def test_slots_are_open_for_their_time(clock, journal):
    from gateway.journal import slots

    slot = slots.Slot("s", "msg", "stu", "1.2", None, None, clock.now(), clock.now() + 3600)
    await journal.run(lambda c: slots.grant(c, slot))
    await clock.pass_time(3600, step=600)
    assert await journal.run(slots.open_slots) == [slot]
    await clock.pass_time(slots.GRACE + 1, step=600)
    assert await journal.run(slots.open_slots) == []


async def test_no_two_workers_have_the_same_name_so_that_none_prolongs_what_the_other_has(journal, jobs):
    one, other = Worker(journal), Worker(journal)
    assert one._owner != other._owner
    job, _ = await jobs.add("test", "a", Untyped())
    [taken] = await journal.run(lambda c: leases.take(c, "test", "", 1, one._owner, 1.0))
    await journal.run(lambda c: leases.renew(c, other._owner, 3600.0))
    assert taken.id == job.id
    assert await journal.run(lambda c: c.execute(select(tables.jobs.c.leased_until)).scalar_one() - c.now) <= 1.0
