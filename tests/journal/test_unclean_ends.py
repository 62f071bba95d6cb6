"""A job that kills whoever does it waits for an operator after five times; those that only ran beside it go on."""

from __future__ import annotations

import pytest

from gateway.journal import Jobs, JobState, leases
from gateway.journal import jobs as table
from tests.clock import ManualClock
from tests.untyped import Untyped

KINDS = ("capture.check", "report.store")


@pytest.fixture
def clock():
    return ManualClock(1_000_000.0)


async def start(journal, owner, *, after=3600.0):
    """A worker starts, finds what a dead one had, and takes whatever is due *after* so many seconds."""
    await journal.run(lambda c: leases.release(c, owner, alone=True))
    await journal.clock.pass_time(after, step=after)

    def take(c):
        lanes = leases.waiting(c, KINDS)
        return [job for kind, lane, due in lanes if due <= c.now for job in leases.take(c, kind, lane, 10, owner, 60.0)]

    return await journal.run(take)


async def add(journal, *subjects):
    for n, subject in enumerate(subjects):
        await journal.run(lambda c, n=n, s=subject: table.add(c, KINDS[n % 2], s, Untyped({"target": "main"})))


@pytest.mark.slow
async def test_the_job_that_kills_is_held_and_no_other(journal):
    await add(journal, "innocent", "other", "killer", "third")
    for life in range(20):
        taken = await start(journal, f"worker {life}")
        if "killer" in [job.subject for job in taken]:
            continue  # it dies, with all that it had
        for job in taken:
            await journal.run(lambda c, job=job: table.end(c, job, JobState.DONE, "stored"))
    by_subject = {job.subject: job for job in await Jobs(journal).list()}
    assert {name: job.state for name, job in by_subject.items()} == {
        "innocent": JobState.DONE, "other": JobState.DONE, "third": JobState.DONE, "killer": JobState.QUARANTINED,
    }  # fmt: skip
    assert f"died {leases.HELD_AFTER} times in a row while it did this" in by_subject["killer"].last_error
    assert by_subject["killer"].attempts == leases.HELD_AFTER


async def test_an_operators_retry_gives_it_as_many_more(journal):
    await add(journal, "killer")
    for life in range(leases.HELD_AFTER + 1):
        await start(journal, f"worker {life}")
    (job,) = await Jobs(journal).list([JobState.QUARANTINED])
    await Jobs(journal).retry(job.id)
    for life in range(leases.HELD_AFTER):
        assert len(await start(journal, f"later {life}")) == 1
    assert await start(journal, "last") == []


async def test_only_ends_in_a_row_count(journal):
    await add(journal, "unlucky")
    for life in range(6):
        (job,) = await start(journal, f"worker {life}")
        if life % 2:
            await journal.run(lambda c, job=job: table.reschedule(c, job, "the PACS is away", failed=True))
    assert (await Jobs(journal).list())[0].state is JobState.WAITING


@pytest.mark.slow
async def test_what_a_row_of_ends_caught_by_chance_rests_and_goes_on(journal):
    await add(journal, "a", "b", "c", "d", "e", "f")
    for life in range(12):  # the power comes and goes every two seconds, whatever runs
        await start(journal, f"worker {life}", after=2.0)
    for life in range(12):  # it is back
        for job in await start(journal, f"calm {life}", after=60.0):
            await journal.run(lambda c, job=job: table.end(c, job, JobState.DONE, "stored"))
    assert {job.state for job in await Jobs(journal).list()} == {JobState.DONE}


async def test_those_that_may_kill_run_one_at_a_time_and_others_beside_them(journal):
    await add(journal, "a", "b", "c")
    for life in range(2):
        await start(journal, f"worker {life}")
    await add(journal, "new")
    taken = {job.subject for job in await start(journal, "third")}
    assert len(taken) == 2
    assert "new" in taken
