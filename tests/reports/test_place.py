"""A report that a place has taken is not brought there a second time because the journal failed meanwhile."""

import asyncio

from gateway.journal import Jobs, JobState, JournalError, Kind, Worker
from gateway.journal import jobs as table
from gateway.reports.jobs import DeliverReport
from gateway.reports.place import PlaceDelivery


class Delivery:
    """What deliveries have in common, of a report that is there."""

    async def report(self, payload):
        return payload

    async def study(self, payload):
        return None

    def end(self, c, job, payload, text):
        table.end(c, job, JobState.DONE, text)


class Place:
    combines = False

    def __init__(self, journal, monkeypatch):
        self.delivered, self._journal, self._monkeypatch = 0, journal, monkeypatch

    async def deliver(self, report, study, before):
        self.delivered += 1
        run, failed, of_the_job = self._journal.run, [], asyncio.current_task()

        async def fails_once(call):
            if not failed and asyncio.current_task() is of_the_job:
                failed.append(call)
                raise JournalError("no")
            return await run(call)

        self._monkeypatch.setattr(self._journal, "run", fails_once)
        return "delivered"


async def test_a_report_that_was_taken_while_the_journal_failed_is_delivered_once(journal, monkeypatch):
    monkeypatch.setattr("gateway.journal.worker.RECORDS_AGAIN_AFTER", 0.05)
    place, jobs = Place(journal, monkeypatch), Jobs(journal)
    payload = DeliverReport("ris", "rep_1", "stu_1", "1.2.3", 1, False, 0.0, "No.", None, 1, None, None)
    job, _ = await jobs.add("report.folder", "rep_1 1 ris", payload)
    worker = Worker(journal)
    worker.register("report.folder", Kind(PlaceDelivery(Delivery(), kind="folder", places={"ris": place}), 1, 3600.0))
    await worker.start()
    running = asyncio.create_task(worker.run())
    async with asyncio.timeout(20):
        while (await jobs.get(job.id)).state is not JobState.DONE:
            await asyncio.sleep(0.05)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await worker.stop()
    assert place.delivered == 1
