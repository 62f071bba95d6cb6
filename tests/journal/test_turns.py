"""A turn goes from one job to the next of its lane: each has one transaction for the end of one and the begin of the
next, and none is lost or done twice for it."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy import event

from gateway.journal import Jobs, JobState, leases
from gateway.journal import jobs as table
from gateway.journal.handling import JobDone, JobStep, Kind, Recorded
from gateway.journal.worker import Worker
from gateway.runtime import bind
from gateway.runtime.log_ids import current
from tests.untyped import Untyped


@pytest.fixture
def jobs(journal):
    return Jobs(journal)


@pytest.fixture
async def begin(journal):
    running = []

    async def begin(handlers, *, at_once=1):
        worker = Worker(journal)
        for name, handler in handlers.items():
            worker.register(name, Kind(handler, at_once, 3600.0))
        await worker.start()
        running.append((worker, asyncio.create_task(worker.run())))
        return worker

    yield begin
    for worker, task in running:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await worker.stop()


async def all_done(jobs, count):
    async with asyncio.timeout(20):
        while len(await jobs.list([JobState.DONE])) < count:
            await asyncio.sleep(0.02)


async def test_jobs_in_a_row_cost_a_transaction_each(journal, jobs, begin):
    async def handler(job):
        return JobDone("done")

    for n in range(50):
        await jobs.add("test", f"{n}", Untyped())
    over, seen = [], []
    worker = Worker(journal, on_over=over.append)
    worker.register("test", Kind(handler, 1, 3600.0))
    await worker.start()
    event.listen(journal._commits._engine, "commit", lambda connection: seen.append(connection))
    running = asyncio.create_task(worker.run())
    async with asyncio.timeout(20):
        while len(over) < 50:
            await asyncio.sleep(0.02)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert len(seen) < 70
    assert [job.subject for job in over] == [f"{n}" for n in range(50)]
    await worker.stop()


async def test_what_a_job_binds_for_the_log_is_not_bound_for_the_one_after_it(jobs, begin):
    seen = []

    async def handler(job):
        seen.append(current())
        bind(study=f"1.2.{job.id}")
        return JobDone("done")

    added = [(await jobs.add("test", f"{n}", Untyped()))[0] for n in range(3)]
    await begin({"test": handler})
    await all_done(jobs, 3)
    assert [ids["job"] for ids in seen] == [str(job.id) for job in added]
    assert not any("study" in ids for ids in seen)


async def test_a_step_goes_on_behind_what_is_due_before_it(jobs, begin):
    begun = []

    async def handler(job):
        begun.append(job.subject)
        return JobStep("halfway", Untyped({"half": True})) if not job.read(Untyped).fields else JobDone("done")

    for n in range(3):
        await jobs.add("test", f"{n}", Untyped())
    await begin({"test": handler})
    await all_done(jobs, 3)
    assert begun == ["0", "1", "2", "0", "1", "2"]


async def test_a_job_that_another_one_adds_at_its_end_begins_at_once(jobs, begin, monkeypatch):
    monkeypatch.setattr("gateway.journal.worker.LOOKS_EVERY", 60.0)
    begun = asyncio.Event()

    async def first(job):
        if job.subject != "0":  # its turn goes on meanwhile
            await begun.wait()

        def record(c):
            table.end(c, job, JobState.DONE, "done")
            table.add(c, "second", job.subject, Untyped())

        return Recorded(record)

    async def second(job):
        begun.set()
        return JobDone("done")

    for n in range(3):
        await jobs.add("first", f"{n}", Untyped())
    await begin({"first": first, "second": second})
    await all_done(jobs, 6)


async def test_what_is_to_be_done_after_the_end_is_done_once_that_is_kept_and_may_fail(jobs, begin):
    found = []

    async def handler(job):
        async def then():
            found.append((await jobs.get(job.id)).state)
            raise OSError("nothing that matters")

        return Recorded(lambda c: table.end(c, job, JobState.DONE, "done"), then)

    for n in range(3):
        await jobs.add("test", f"{n}", Untyped())
    await begin({"test": handler})
    await all_done(jobs, 3)
    async with asyncio.timeout(10):
        while len(found) < 3:
            await asyncio.sleep(0.02)
    assert found == [JobState.DONE] * 3


async def test_an_end_that_cannot_be_recorded_as_it_was_to_be_is_an_attempt_that_failed(jobs, begin):
    async def handler(job):
        def record(c):
            table.end(c, job, JobState.DONE, "done")
            raise LookupError("of the handler's own")

        return Recorded(record)

    job, _ = await jobs.add("test", "a", Untyped())
    await begin({"test": handler})
    async with asyncio.timeout(10):
        while not (found := await jobs.get(job.id)).last_error:
            await asyncio.sleep(0.02)
    assert "LookupError" in found.last_error
    assert found.state is not JobState.DONE


async def test_what_was_taken_and_not_begun_is_free_again_after_the_stop(journal, jobs):
    worker = Worker(journal)
    job, _ = await jobs.add("test", "a", Untyped())
    await journal.run(lambda c: leases.take(c, "test", "", 1, worker._owner, 60.0))
    await worker.stop()
    assert (await jobs.get(job.id)).state is JobState.WAITING


async def test_what_was_taken_and_not_begun_is_free_again_after_two_renewals_and_not_before(journal, jobs):
    worker = Worker(journal)
    job, _ = await jobs.add("test", "a", Untyped())
    await journal.run(lambda c: leases.take(c, "test", "", 1, worker._owner, 60.0))
    await worker._renew()
    assert (await jobs.get(job.id)).state is JobState.RUNNING  # it may be about to begin
    await worker._renew()
    assert (await jobs.get(job.id)).state is JobState.WAITING


async def test_lanes_share_a_bound_though_turns_are_handed_on(journal, jobs):
    begun = asyncio.Queue()

    async def handler(job):
        begun.put_nowait(job.kind)
        await asyncio.sleep(0)
        return JobDone("done")

    worker = Worker(journal, at_once=1)
    for kind in ("a", "b"):
        worker.register(kind, Kind(handler, 1, 3600.0))
        for n in range(3):
            await jobs.add(kind, f"{n}", Untyped())
    await worker.start()
    running = asyncio.create_task(worker.run())
    await all_done(jobs, 6)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await worker.stop()
    assert sorted(begun.get_nowait() for _ in range(6)) == ["a"] * 3 + ["b"] * 3


async def test_to_look_for_what_is_due_takes_as_long_however_many_copies_wait_to_be_removed(journal, jobs):
    for kind in ("a", "b"):
        await jobs.add(kind, "x", Untyped())

    def steps(c):
        """Hundreds of instructions that SQLite takes for a look."""
        counted = []
        driver = c.connection.connection.driver_connection
        driver.set_progress_handler(lambda: counted.append(None), 100)
        found = leases.waiting(c, ["a", "b", table.CLEAN])
        driver.set_progress_handler(None, 100)
        return len(counted), [(kind, lane) for kind, lane, _ in found]

    def add(count):
        def many(c):
            for _ in range(count):
                table.clean(c, "key", after=3600.0)

        return many

    await journal.run(add(10))
    few = await journal.run(steps)
    await journal.run(add(1000))
    many = await journal.run(steps)
    assert many[0] < 2 * few[0]  # not one for each that waits
    assert many[1] == few[1] == [("a", ""), ("b", ""), (table.CLEAN, "")]


async def test_lanes_in_which_jobs_wait_are_found_by_kind_and_place(journal):
    assert await journal.run(lambda c: leases.waiting(c, ["test"])) == []

    class For(Untyped):
        @property
        def lane(self):
            return self.fields["place"]

    def add(c):
        for n, (kind, place) in enumerate([("test", "b"), ("test", "a"), ("test", "b"), ("other", "a"), ("zoo", "")]):
            table.add(c, kind, f"{n}", For({"place": place}), after=10.0 * (5 - n))
        return c.now

    now = await journal.run(add)
    found = await journal.run(lambda c: leases.waiting(c, ["test", "zoo"]))
    assert sorted(found) == [("test", "a", now + 40.0), ("test", "b", now + 30.0), ("zoo", "", now + 10.0)]
