"""No object is left behind that a job put, or was about to put, when it was killed."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.journal import CLEAN, CleanObject, Jobs, JobState, objects
from gateway.journal import jobs as table
from gateway.journal.payload import Payload


@dataclass(frozen=True, slots=True)
class Works(Payload):
    key: str | None = None

    @property
    def keys(self):
        return (self.key,) if self.key else ()


NOTHING = Works()


async def reserved(journal, *keys, payload=NOTHING):
    """A job whose attempts were killed after they had said what they were going to put."""
    job, _ = await Jobs(journal).add("test", "a", payload)
    await journal.run(lambda c: objects.use(c, job.id, keys))
    return job


async def to_be_removed(journal):
    return {j.read(CleanObject).key for j in await Jobs(journal).list(kinds=[CLEAN])}


async def test_what_a_killed_attempt_put_goes_once_the_next_one_has_put_another(journal):
    job = await reserved(journal, "reports/first", "reports/second")
    await journal.run(lambda c: table.reschedule(c, job, "a step", payload=Works("reports/second")))
    assert await to_be_removed(journal) == {"reports/first"}
    assert await journal.run(lambda c: objects.of(c, job.id)) == ["reports/second"]


async def test_what_a_killed_attempt_put_goes_once_the_job_waits_for_an_operator_without_it(journal):
    job = await reserved(journal, "reports/first")
    await journal.run(lambda c: table.end(c, job, JobState.QUARANTINED, "no PDF", Works()))
    assert await to_be_removed(journal) == {"reports/first"}


async def test_what_another_job_needs_stays(journal):
    job = await reserved(journal, "reports/first")
    await Jobs(journal).add("other", "a", Works("reports/first"))
    await journal.run(lambda c: table.reschedule(c, job, "a step", payload=Works("reports/second")))
    assert await to_be_removed(journal) == set()


async def test_a_job_that_fails_keeps_what_it_said_that_it_would_put(journal):
    job = await reserved(journal, "reports/first")
    await journal.run(lambda c: table.reschedule(c, job, "no answer", failed=True))
    assert await to_be_removed(journal) == set()
    assert await journal.run(lambda c: objects.of(c, job.id)) == ["reports/first"]


async def test_an_upload_is_left_to_the_inbox_since_another_one_may_lie_there_by_then(journal):
    job = await reserved(journal, "quarantine/a", payload=Works("inbox/a"))
    await journal.run(lambda c: table.end(c, job, JobState.QUARANTINED, "no DICOM", Works("quarantine/a")))
    assert await to_be_removed(journal) == set()
