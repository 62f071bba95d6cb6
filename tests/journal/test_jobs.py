"""Durable jobs: done once however often they fail, and never twice at a time."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time

import pytest

from gateway.journal import Jobs, JobState, Journal, leases
from gateway.journal import jobs as table
from gateway.journal.handling import CannotBeDone, JobDone, JobStep, Kind, TryLater
from gateway.journal.job import Unfit
from gateway.journal.jobs import LONGEST_PAUSE, pause_after
from gateway.journal.worker import Worker
from gateway.pacs.errors import OperationFailed
from gateway.runtime.supervise import Supervisor
from tests.untyped import Untyped


@pytest.fixture
def jobs(journal):
    return Jobs(journal)


@pytest.fixture
async def work(journal):
    workers, loops = [], Supervisor()
    await loops.start()

    async def begin(handler, *, at_once=2, retry_for=3600.0, alone=True):
        worker = Worker(journal, alone=alone)
        worker.register("test", Kind(handler, at_once, retry_for))
        workers.append(worker)
        await worker.start()
        loops.add(f"worker {len(workers)}", worker.run)
        return worker

    yield begin
    await loops.stop()
    for worker in workers:
        await worker.stop()


async def until(jobs, job_id, state, within=10.0):
    async with asyncio.timeout(within):
        while (job := await jobs.get(job_id)).state is not state:
            await asyncio.sleep(0.02)
    return job


async def test_the_same_work_is_one_job(jobs):
    first, new = await jobs.add("test", "a", Untyped({"n": 1}))
    again, new_again = await jobs.add("test", "a", Untyped({"n": 2}))
    assert (new, new_again) == (True, False)
    assert again.id == first.id
    assert again.read(Untyped).fields == {"n": 1}


async def test_a_job_that_is_new_is_told_as_it_is_kept(jobs, journal):
    job, _ = await jobs.add("test", "a", Untyped({"n": 1}))
    assert await jobs.get(job.id) == job
    taken = await journal.run(lambda c: leases.take(c, "test", job.lane, 1, "somebody", 60.0))
    assert taken == [await jobs.get(job.id)]


async def test_many_jobs_are_found_at_once_however_many_values_a_statement_may_have(jobs, journal, monkeypatch):
    monkeypatch.setattr(table, "SUBJECTS_AT_ONCE", 2)
    subjects = ["a", "b", "c", "d", "e"]
    for subject in subjects:
        await jobs.add("test", subject, Untyped({"n": 1}))
    await jobs.add("other", "z", Untyped({"n": 1}))
    found = await journal.run(lambda c: table.find_all(c, "test", [*subjects, "z"]))
    assert sorted(found) == subjects
    assert all(job.subject == subject for subject, job in found.items())


@pytest.mark.slow
async def test_a_job_that_fails_is_tried_again_after_growing_pauses(jobs, work):
    times = []

    async def handler(job):
        times.append(time.monotonic())
        if len(times) < 3:
            raise TryLater("the PACS is away")
        return JobDone("stored")

    job, _ = await jobs.add("test", "a", Untyped())
    await work(handler)
    await until(jobs, job.id, JobState.DONE)
    assert 0.7 < times[1] - times[0] < 2.5
    assert times[2] - times[1] > 1.4
    said = [entry.text for entry in await jobs.history(job.id)]
    assert said == [
        "added", "attempt 1 failed: the PACS is away", "attempt 2 failed: the PACS is away", "done: stored",
    ]  # fmt: skip


def test_pauses_grow_to_a_quarter_of_an_hour_and_no_further():
    assert pause_after(1) < 1.3
    assert LONGEST_PAUSE * 0.7 < pause_after(12) < LONGEST_PAUSE * 1.3
    assert pause_after(10_000) < LONGEST_PAUSE * 1.3


@pytest.mark.parametrize("transient", [True, False])
@pytest.mark.parametrize("wrapped", [True, False])
async def test_what_the_other_side_said_is_in_the_jobs_history_and_nowhere_else(jobs, work, caplog, transient, wrapped):
    caplog.set_level("INFO")

    async def handler(job):
        failed = OperationFailed("status C000", status=0xC000, transient=transient, remark="no Doe^Jane")
        if not wrapped:
            raise failed
        raise (TryLater if transient else CannotBeDone)(str(failed)) from failed

    job, _ = await jobs.add("test", "a", Untyped())
    await work(handler)
    async with asyncio.timeout(10):
        while "the other side said: no Doe^Jane" not in [entry.text for entry in await jobs.history(job.id)]:
            await asyncio.sleep(0.02)
    assert (await jobs.get(job.id)).last_error in ("status C000", "")  # empty while it is tried again
    assert "status C000" in caplog.text
    assert "Jane" not in caplog.text


@pytest.mark.slow
async def test_what_cannot_be_done_waits_for_an_operator(jobs, work):
    fixed = False

    async def handler(job):
        if not fixed:
            raise CannotBeDone("no context accepted")
        return JobDone("stored")

    job, _ = await jobs.add("test", "a", Untyped())
    await work(handler)
    held = await until(jobs, job.id, JobState.QUARANTINED)
    assert held.last_error == "no context accepted"
    await asyncio.sleep(0.2)
    assert (await jobs.get(job.id)).attempts == 1  # not tried again by itself
    fixed = True
    await jobs.retry(job.id)
    await until(jobs, job.id, JobState.DONE)


async def test_a_job_is_given_up_in_time_and_not_dropped(jobs, work, monkeypatch):
    monkeypatch.setattr(table, "FIRST_PAUSE", 0.001)
    monkeypatch.setattr(table, "LONGEST_PAUSE", 0.002)

    async def handler(job):
        raise TryLater("still away")

    job, _ = await jobs.add("test", "a", Untyped())
    await work(handler, retry_for=0.0)
    held = await until(jobs, job.id, JobState.QUARANTINED)
    assert held.attempts == 10  # a clock that jumps alone ends nothing
    assert "given up after 10 attempts" in held.last_error
    assert "still away" in held.last_error


@pytest.mark.slow
async def test_an_error_of_our_own_is_tried_again_and_shows_no_internals(jobs, work, caplog):
    async def handler(job):
        if job.attempts == 1:
            raise ValueError("secret")
        return JobDone("")

    job, _ = await jobs.add("test", "a", Untyped())
    await work(handler)
    await until(jobs, job.id, JobState.DONE)
    assert "secret" not in " ".join(e.text for e in await jobs.history(job.id))
    caplog.clear()


async def test_a_step_is_kept_and_the_job_goes_on_from_it(jobs, work):
    seen = []

    async def handler(job):
        seen.append(job.read(Untyped).fields)
        return JobStep("sent", Untyped({"sent": True})) if not seen[-1] else JobDone("committed")

    job, _ = await jobs.add("test", "a", Untyped())
    await work(handler)
    await until(jobs, job.id, JobState.DONE)
    assert seen == [{}, {"sent": True}]


@pytest.mark.slow
async def test_a_worker_that_is_woken_while_it_is_stopped_stops(journal):
    worker = Worker(journal)
    async with Supervisor() as loops:
        for _ in range(20):
            loops.add("jobs", worker.run)
            await asyncio.sleep(0.02)  # it waits for something to do
            worker.wake()
            async with asyncio.timeout(5):
                await loops.remove("jobs")


@pytest.mark.slow
async def test_two_workers_never_have_the_same_job(journal, jobs, work):
    running, most, done = 0, 0, []

    async def handler(job):
        nonlocal running, most
        running += 1
        most = max(most, running)
        assert job.id not in done
        await asyncio.sleep(0.01)
        done.append(job.id)
        running -= 1
        return JobDone("")

    made = [(await jobs.add("test", str(n), Untyped()))[0].id for n in range(20)]
    await work(handler, alone=False, at_once=2)
    await work(handler, alone=False, at_once=2)
    for job_id in made:
        await until(jobs, job_id, JobState.DONE)
    assert sorted(done) == made
    assert most <= 4


@pytest.mark.slow
async def test_a_dead_workers_job_is_taken_over_once_its_lease_is_over(journal, jobs, work, monkeypatch):
    monkeypatch.setattr("gateway.journal.worker.LEASE", 0.4)  # is looked at four times in that
    job, _ = await jobs.add("test", "a", Untyped())
    (taken,) = await journal.run(lambda c: leases.take(c, "test", "", 1, "the dead", 0.5))
    assert taken.id == job.id
    assert await journal.run(lambda c: leases.take(c, "test", "", 1, "other", 60)) == []
    began = time.monotonic()
    ended = asyncio.Event()

    async def handler(job):
        ended.set()
        return JobDone("")

    await work(handler, alone=False)
    await asyncio.wait_for(ended.wait(), 10)
    assert time.monotonic() - began > 0.4


@pytest.mark.slow
async def test_a_worker_that_is_alone_takes_up_what_a_killed_one_held(journal, jobs, work):
    job, _ = await jobs.add("test", "a", Untyped())
    await journal.run(lambda c: leases.take(c, "test", "", 1, "the dead", 3600))

    async def handler(job):
        return JobDone("")

    await work(handler)
    assert (await until(jobs, job.id, JobState.DONE)).attempts == 2


async def test_a_crash_loop_finds_growing_pauses(journal, jobs):
    await jobs.add("test", "a", Untyped())
    pauses = []
    for _ in range(leases.HELD_AFTER):
        await journal.run(lambda c: c.connection.exec_driver_sql("UPDATE jobs SET next_at = 0"))
        (taken,) = await journal.run(lambda c: leases.take(c, "test", "", 1, "one", 60))
        pauses.append(taken.next_at - time.time())  # on the disk before the work begins
        await journal.run(lambda c: leases.release(c, "two", alone=True))
    assert pauses == sorted(pauses)
    assert pauses[-1] > 2.5


async def test_stopping_gives_a_job_back_at_once(jobs, work):
    begun = asyncio.Event()

    async def handler(job):
        begun.set()
        await asyncio.sleep(60)

    job, _ = await jobs.add("test", "a", Untyped())
    worker = await work(handler)
    await asyncio.wait_for(begun.wait(), 5)
    await worker.stop()
    assert (await jobs.get(job.id)).state is JobState.WAITING


async def test_what_was_discarded_may_come_again(jobs):
    job, _ = await jobs.add("test", "a", Untyped())
    assert (await jobs.discard(job.id, "not wanted")).state is JobState.DISCARDED
    other, new = await jobs.add("test", "a", Untyped())
    assert new
    assert other.id != job.id
    with pytest.raises(Unfit, match="nothing to discard"):
        await jobs.discard(job.id, "twice")
    with pytest.raises(Unfit, match="there is no job 99"):
        await jobs.retry(99)


@pytest.mark.slow
async def test_a_kill_in_the_middle_of_a_job_loses_nothing(tmp_path):
    url = f"sqlite:///{tmp_path / 'journal.db'}"
    code = (
        "import asyncio\n"
        "from gateway.journal import *\n"
        "async def handler(job):\n"
        "    print('at work', flush=True)\n"
        "    await asyncio.sleep(60)\n"
        "async def main():\n"
        f"    journal = await Journal.open({url!r})\n"
        "    await Jobs(journal).add('test', 'a', CleanObject('it'))\n"
        "    worker = Worker(journal)\n"
        "    worker.register('test', Kind(handler, 1, 60))\n"
        "    await worker.start()\n"
        "    await worker.run()\n"
        "asyncio.run(main())\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "at work\n"
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    journal = await Journal.open(url)
    done = asyncio.Event()

    async def handler(job):
        assert job.read(table.CleanObject).key == "it"
        done.set()
        return JobDone("")

    worker = Worker(journal)
    worker.register("test", Kind(handler, 1, 60))
    await worker.start()
    async with Supervisor() as loops:
        loops.add("jobs", worker.run)
        await asyncio.wait_for(done.wait(), 10)
    await worker.stop()
    await journal.close()
